"""From a request to an answer, token by token."""
