"""Ignores the end of its input and SIGTERM."""

import signal

from tests.support.stdio_servers.speaking import answer, greeted, heard

signal.signal(signal.SIGTERM, signal.SIG_IGN)
for message in heard():
    if not greeted(message) and "id" in message:
        answer(message, {"tools": []})
while True:
    signal.pause()
