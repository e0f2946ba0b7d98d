"""Two small MCP servers and a gateway in front of them, to try things out.

Owns nothing that the gateway itself uses. Deliberately without the MCP SDK:
the servers show how little a server needs.
"""
