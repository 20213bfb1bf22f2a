"""KV state on disk: what a model has read once is restored and not evaluated again."""

DIRECTORY = "kv"
"""Of a bank, where it lies."""
EPOCH = "epoch"
"""The file in it that changes whenever something is forgotten."""
