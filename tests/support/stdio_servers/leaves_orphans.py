"""Its tool ``leave`` leaves two orphans, which end once they are somebody else's; its tool ``exit`` ends it with 7.

``leaves_orphans FOLDER``: each orphan writes a file there as its last deed.
"""

import os
import sys
import time
from pathlib import Path

from tests.support.stdio_servers.speaking import Message, answer, greeted, heard, params

TOOLS: Message = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("leave", "exit")]}


def leave(name: str, *, own_session: bool) -> None:
    """Start an orphan, in this process group or in a session of its own."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    if own_session:
        os.setsid()
    parent = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == parent:
        time.sleep(0.01)  # noqa: TID251  # a program of its own, without Trio
    Path(sys.argv[1], name).touch()
    os._exit(0)


for message in heard():
    if greeted(message):
        continue
    match message.get("method"), params(message).get("name"):
        case "tools/list", _:
            answer(message, TOOLS)
        case "tools/call", "leave":
            leave("group", own_session=False)
            leave("session", own_session=True)
            answer(message, {"content": []})
        case "tools/call", _:
            os._exit(7)
        case "ping", _:
            answer(message, {})
        case _:
            pass
