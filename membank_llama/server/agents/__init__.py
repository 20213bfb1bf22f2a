"""MCP: what agents look at a bank and change it with."""
