"""The page: a bank for people, in a browser."""
