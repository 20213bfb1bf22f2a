"""KV state on disk: what a model has read once is restored and not evaluated again."""
