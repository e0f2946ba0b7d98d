"""A legacy server that exits when its first message is not ``initialize``, as rmcp does."""

import sys

from tests.support.stdio_servers.speaking import answer, greeted, heard

for number, message in enumerate(heard()):
    if number == 0 and message.get("method") != "initialize":
        sys.exit(1)
    if not greeted(message) and "id" in message:
        answer(message, {})
