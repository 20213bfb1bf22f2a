"""The engine's routes, one module for each API."""
