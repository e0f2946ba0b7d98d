"""A scripted MCP server of 2025-11-25 on stdin and stdout, which journals hanging calls.

Owns one loop over lines. Deliberately standard library only, so that ``python -S`` starts it at once, and
single-threaded. Invariant: a notice is journalled when its line has been read, before anything else is done.
Run: ``python -S -m bench.stdio_backend --journal FILE``
"""

import argparse
import json
import sys

from bench import journal, messages


def main() -> None:
    """Serve until stdin ends; calls that still hang are then journalled as closed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--journal", required=True)
    parser.add_argument("--tools", type=int, default=5)
    options = parser.parse_args()
    book = journal.Journal(options.journal)
    hanging: dict[object, int] = {}
    for line in sys.stdin.buffer:
        message = json.loads(line)
        params = message.get("params", {})
        if message.get("method") == "notifications/cancelled":
            number = hanging.pop(params["requestId"], None)
            if number is not None:
                book.note(number, journal.NOTICE)
        elif message.get("method") == "tools/call" and params["name"] == messages.HANG:
            hanging[message["id"]] = params["arguments"]["n"]
            book.note(params["arguments"]["n"], journal.BEGAN)
        elif "id" in message:
            if params.get("name") == messages.STREAM:
                token = params.get("_meta", {}).get("progressToken")
                for step in range(1, messages.EVENTS):
                    sys.stdout.buffer.write(json.dumps(messages.progress(token, step)).encode() + b"\n")
            found = _answer(message["method"], params.get("name"), options.tools)
            answer = {"jsonrpc": "2.0", "id": message["id"], **found}
            sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
            sys.stdout.buffer.flush()
    for number in hanging.values():
        book.note(number, journal.CLOSED)


def _answer(method: str, name: object, count: int) -> messages.Json:
    match method:
        case "initialize":
            return {"result": messages.initialize_result()}
        case "ping":
            return {"result": {}}
        case "tools/list":
            return {"result": {"tools": messages.tools(count)}}
        case "tools/call":
            return {"result": messages.text_result(2**20 if name == messages.LARGE else 400)}
        case _:
            return {"error": {"code": -32601, "message": "Method not found"}}


if __name__ == "__main__":
    main()
