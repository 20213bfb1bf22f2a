"""HTTP: the proxy that gives any client a memory, and the engine that answers with llama.cpp."""
