"""A modern server: no handshake, a listen stream; ``argv[1]`` is a file for everything it hears."""

import sys

from tests.support.stdio_servers.speaking import Message, answer, heard, params, refuse, say

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"


def discover(message: Message) -> None:
    """Say what we are."""
    answer(
        message,
        {
            "resultType": "complete",
            "supportedVersions": ["2026-07-28"],
            "capabilities": {"tools": {"listChanged": True}},
            "ttlMs": 0,
            "cacheScope": "public",
            "instructions": "be nice",
            "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "modern", "version": "1"}},
        },
    )


def main() -> None:
    """Serve until standard input ends."""
    listener: object = None
    with open(sys.argv[1], "a", buffering=1) as record:
        for message in heard():
            record.write(f"{message}\n")
            match message.get("method"):
                case "server/discover":
                    discover(message)
                case "subscriptions/listen":
                    listener = message["id"]
                    meta = {"_meta": {SUBSCRIPTION: listener}}
                    say({"method": "notifications/subscriptions/acknowledged", "params": meta})
                case "tools/call" if params(message).get("name") == "change":
                    meta = {"_meta": {SUBSCRIPTION: listener}}
                    say({"method": "notifications/tools/list_changed", "params": meta})
                    say({"id": 77, "method": "sampling/createMessage", "params": {}})
                    answer(message, {"resultType": "complete"})
                case "initialize":
                    refuse(message, -32601, "Method not found")
                case _:
                    pass


if __name__ == "__main__":
    main()
