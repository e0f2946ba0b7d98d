"""Leaves a grandchild that holds its pipes open and ignores SIGTERM; ``exit`` as a tool ends the parent only."""

import os
import signal

from tests.support.stdio_servers.speaking import answer, greeted, heard, params

if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        signal.pause()

for message in heard():
    if greeted(message):
        continue
    if params(message).get("name") == "exit":
        os._exit(5)
    if "id" in message:
        answer(message, {"tools": []})
