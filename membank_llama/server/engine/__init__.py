"""llama.cpp behind Ollama's API, in this process: what `membank serve` answers with where there is no Ollama."""
