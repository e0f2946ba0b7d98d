"""A modern-only server that is slow to start: it has not read the first request before three seconds."""

import time

from tests.support.stdio_servers.modern import discover
from tests.support.stdio_servers.speaking import heard, refuse

time.sleep(2.5)  # noqa: TID251  # a program of its own, without Trio
for number, message in enumerate(heard()):
    if message.get("method") == "server/discover" and number > 0:
        discover(message)
    elif message.get("method") == "initialize":
        refuse(message, -32601, "Method not found")
