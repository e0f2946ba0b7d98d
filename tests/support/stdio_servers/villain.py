"""An honest legacy server but for one misdeed, ``argv[1]``, at its start or when its tool is called."""

import json
import os
import signal
import sys
import threading

from tests.support.stdio_servers.speaking import Message, answer, greeted, heard, line, say

LOCK = threading.Lock()
HELLO: Message = {"content": [{"type": "text", "text": "hello"}]}
FORGED: Message = {"content": [{"type": "text", "text": "FORGED"}]}


def flood(descriptor: int, text: bytes) -> None:
    """Write for ever, whole lines, beside the conversation."""

    def write() -> None:
        while True:
            with LOCK:
                os.write(descriptor, text)

    threading.Thread(target=write, daemon=True).start()


def fork() -> None:
    """Leave a family that holds every pipe open and ignores SIGTERM."""
    for _ in range(3):
        if os.fork() == 0:
            os.fork()
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True:
                signal.pause()


def begin(misdeed: str) -> None:
    """What is done before the first message is read."""
    match misdeed:
        case "floods stderr":
            flood(2, b"noise \x1b[31m\n" * 400)
        case "floods stderr without a line end":
            flood(2, b"x" * 4096)
        case "floods stdout with junk":
            flood(1, b"Listening on stdio ...\n" * 100)
        case "floods stdout with notices":
            notice = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}}
            flood(1, (json.dumps(notice) + "\n").encode() * 40)
        case "ignores TERM":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        case "forks":
            fork()
        case "is mute":
            while True:
                signal.pause()
        case "exits":
            os._exit(3)
        case "closes its output":
            os.close(1)
        case "speaks no JSON":
            flood(1, b"what?\n")
            while True:
                signal.pause()
        case _:
            pass


def act(misdeed: str, message: Message) -> None:
    """Answer the call of a tool."""
    rpc_id = message["id"]
    assert isinstance(rpc_id, int)
    match misdeed:
        case "never answers":
            pass
        case "dies":
            os._exit(3)
        case "dies in the middle of a line":
            line(b'{"jsonrpc":"2.0","id":%d,"resu' % rpc_id, end=b"")
            os._exit(3)
        case "sends a line of 64 MiB":
            line(b'{"jsonrpc":"2.0","id":%d,"result":{"x":"%b"}}' % (rpc_id, b"x" * 2**26))
        case "sends a line without end":
            line(b'{"jsonrpc":"2.0","id":%d,"result":{"x":"' % rpc_id, end=b"")
            while True:
                line(b"x" * 65536, end=b"")
        case "sends half a message":
            line(b'{"jsonrpc":"2.0","id":%d,"result":{"x":' % rpc_id)
        case "answers with a wrong id":
            say({"id": rpc_id + 1000, "result": FORGED})
        case "answers with a text id":
            say({"id": str(rpc_id), "result": FORGED})
        case "answers without an id":
            say({"result": FORGED})
        case "answers twice":
            answer(message, HELLO)
            answer(message, FORGED)
        case "answers the next call too":
            answer(message, HELLO)
            say({"id": rpc_id + 1, "result": FORGED})
        case "prints junk":
            with LOCK:
                line(b"Listening on stdio ...\n\n{not json}\n\xff\xfe\n[]\n42\n\x00\x1b[2J")
            answer(message, HELLO)
        case _:
            with LOCK:
                answer(message, HELLO)


def main(misdeed: str) -> None:
    """Serve until standard input ends; some go on then."""
    begin(misdeed)
    for message in heard():
        if misdeed == "closes its output":
            continue
        with LOCK:
            if greeted(message):
                continue
        match message.get("method"):
            case "tools/list":
                with LOCK:
                    answer(message, {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]})
            case "tools/call":
                act(misdeed, message)
            case "ping":
                with LOCK:
                    answer(message, {})
            case _:
                pass
    while misdeed == "ignores TERM":
        signal.pause()


if __name__ == "__main__":
    main(sys.argv[1])
