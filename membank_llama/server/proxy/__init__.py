"""Memory on the way between a client and whatever speaks Ollama's API."""
