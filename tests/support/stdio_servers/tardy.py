"""A legacy server that answers a call only once it has been cancelled."""

from tests.support.stdio_servers.speaking import Message, answer, greeted, heard

TOOL: Message = {"name": "wait", "inputSchema": {"type": "object"}}


def main() -> None:
    """Serve until standard input ends."""
    waiting: Message | None = None
    for message in heard():
        if greeted(message):
            continue
        match message.get("method"):
            case "tools/list":
                answer(message, {"tools": [TOOL]})
            case "tools/call":
                waiting = message
            case "notifications/cancelled" if waiting is not None:
                answer(waiting, {"content": []})
            case "ping":
                answer(message, {})
            case _:
                pass


if __name__ == "__main__":
    main()
