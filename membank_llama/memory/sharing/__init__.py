"""One bank, many hands: the process that holds a bank serves the others of its person."""
