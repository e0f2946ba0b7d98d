"""Greets, then never reads its input again; ignores SIGTERM too."""

import signal

from tests.support.stdio_servers.speaking import greeted, heard

signal.signal(signal.SIGTERM, signal.SIG_IGN)
for message in heard():
    greeted(message)
    if message.get("method") == "notifications/initialized":
        break
while True:
    signal.pause()
