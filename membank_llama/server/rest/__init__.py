"""REST: what programs look at a bank and change it with."""
