"""MCP: the memories of a namespace as tools for agents, over stdio and over HTTP."""
