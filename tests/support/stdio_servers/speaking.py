"""What the little servers share: lines in, lines out, the legacy handshake."""

import json
import sys
from collections.abc import Iterator
from typing import TypeAlias

Message: TypeAlias = dict[str, object]


def heard() -> Iterator[Message]:
    """The messages on standard input, until it ends."""
    for line in sys.stdin.buffer:
        yield json.loads(line)


def say(message: Message) -> None:
    """Write one message and flush."""
    line(json.dumps({"jsonrpc": "2.0", **message}).encode())


def line(raw: bytes, end: bytes = b"\n") -> None:
    """Write raw bytes and flush."""
    sys.stdout.buffer.write(raw + end)
    sys.stdout.buffer.flush()


def answer(message: Message, result: Message) -> None:
    """Answer one request."""
    say({"id": message["id"], "result": result})


def refuse(message: Message, code: int, text: str) -> None:
    """Answer one request with an error."""
    say({"id": message["id"], "error": {"code": code, "message": text}})


def params(message: Message) -> Message:
    """The params of a message, ``{}`` when it has none."""
    found = message.get("params")
    return found if isinstance(found, dict) else {}


def greeted(message: Message) -> bool:
    """Do the legacy part of a conversation; True if ``message`` was part of it."""
    match message.get("method"):
        case "initialize":
            answer(
                message,
                {
                    "protocolVersion": params(message)["protocolVersion"],
                    "capabilities": {"tools": {}},
                    "serverInfo": {"name": "little", "version": "1"},
                },
            )
        case "server/discover":
            refuse(message, -32601, "Method not found")
        case "notifications/initialized":
            pass
        case _:
            return False
    return True
