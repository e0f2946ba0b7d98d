"""One MCP endpoint in front of many MCP servers.

Owns the version number. Deliberately imports nothing: a command pays only for what it uses.
"""

__version__ = "0.1.0"
