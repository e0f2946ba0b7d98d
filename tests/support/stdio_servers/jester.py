"""A legacy server whose one tool does what its name says; ``argv[1]`` is a file for everything it hears."""

import os
import sys

from tests.support.stdio_servers.speaking import Message, answer, greeted, heard, line, params, say


def act(message: Message) -> None:
    """Do what the called tool's name says."""
    match params(message).get("name"):
        case "echo":
            answer(message, {"echo": params(message).get("arguments")})
        case "environment":
            answer(message, {"environment": dict(os.environ), "cwd": os.getcwd()})
        case "never":
            pass
        case "progress":
            for done in range(200):
                say({"method": "notifications/progress", "params": {"progressToken": message["id"], "progress": done}})
            answer(message, {})
        case "ask":
            say({"id": "q1", "method": "sampling/createMessage", "params": {"for": message["id"]}})
        case "ping back":
            say({"id": "p1", "method": "ping"})
        case "announce":
            say({"method": "notifications/tools/list_changed"})
            answer(message, {})
        case "junk":
            line(b"Listening on stdio ...\n\n{not json}\n\xff\xfe\n[]\n42")
            answer(message, {})
        case "NaN":
            line(b'{"jsonrpc":"2.0","id":%d,"result":{"x":NaN}}' % upstream_id(message))
        case "huge":
            line(b'{"jsonrpc":"2.0","id":%d,"result":{"x":"%b"}}' % (upstream_id(message), b"x" * 2_000_000))
        case "die":
            os._exit(3)
        case "last words":
            answer(message, {"last": "words"})
            os._exit(0)
        case "half a line":
            line(b'{"jsonrpc":"2.0","id":%d,"resul' % upstream_id(message), end=b"")
            os._exit(0)
        case "close stdout":
            os.close(1)
        case "die of a signal":
            os.abort()
        case _:
            answer(message, {"unknown": True})


def upstream_id(message: Message) -> int:
    """Our peer's ids are integers."""
    found = message["id"]
    assert isinstance(found, int)
    return found


def main() -> None:
    """Serve until standard input ends."""
    waiting: Message | None = None
    with open(sys.argv[1], "a", buffering=1) as record:
        for message in heard():
            record.write(f"{message}\n")
            if greeted(message):
                continue
            if message.get("method") == "tools/call":
                waiting = message
                act(message)
            elif message.get("id") in ("q1", "p1") and waiting is not None:
                answer(waiting, {"you said": message.get("result")})


if __name__ == "__main__":
    main()
