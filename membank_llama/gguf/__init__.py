"""GGUF files on disk: which one a name means, what its header says, what Ollama keeps. Loads no model."""
