"""Histories and memories of other programs, taken in: recognised by their shape, previewed, and undone as one."""
