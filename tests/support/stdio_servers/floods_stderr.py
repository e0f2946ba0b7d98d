"""Writes 4 MiB to standard error before each answer, one line of it without an end."""

import sys

from tests.support.stdio_servers.speaking import answer, greeted, heard

for message in heard():
    if not greeted(message) and "id" in message:
        for _ in range(20_000):
            sys.stderr.write("noise " * 16 + "\x1b[31m\n")
        sys.stderr.write("x" * 2_000_000)
        sys.stderr.flush()
        answer(message, {})
