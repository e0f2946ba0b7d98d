"""Says on standard error what it downloads, and serves once a file exists; notes each of its starts beside it.

``downloads_first FILE``
"""

import os
import sys
import time
from pathlib import Path

from tests.support.stdio_servers.speaking import answer, greeted, heard

DONE = Path(sys.argv[1])
with DONE.with_suffix(".starts").open("a") as starts:
    starts.write("started\n")
os.write(2, b"Resolved 30 packages\nDownloading numpy\r")
while not DONE.exists():
    time.sleep(0.02)  # noqa: TID251  # a program of its own, without Trio
for message in heard():
    if greeted(message):
        continue
    match message.get("method"):
        case "tools/list":
            answer(message, {"tools": [{"name": "add", "inputSchema": {"type": "object"}}]})
        case _ if "id" in message:
            answer(message, {"content": []})
        case _:
            pass
