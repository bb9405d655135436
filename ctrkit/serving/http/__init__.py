"""The HTTP server of an exported model; each protocol has a file of routes."""
