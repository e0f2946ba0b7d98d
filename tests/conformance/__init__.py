"""The official conformance suite: a server with everything it looks for, and the program that runs it."""
