"""The command line: `membank`, the chat in the terminal, the demo, the benchmarks."""
