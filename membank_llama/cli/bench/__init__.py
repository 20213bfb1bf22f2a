"""What `membank bench` measures; the commands only show it."""
