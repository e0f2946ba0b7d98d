"""Greets, closes its input and lives on."""

import os
import signal

from tests.support.stdio_servers.speaking import greeted, heard, say

for message in heard():
    greeted(message)
    if message.get("method") == "notifications/initialized":
        break
os.close(0)
say({"method": "notifications/message", "params": {"data": "closed"}})
while True:
    signal.pause()
