"""Reads everything and never says a word."""

from tests.support.stdio_servers.speaking import heard

for _ in heard():
    pass
