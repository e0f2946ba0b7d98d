"""A legacy server that lists each of its conditional tools only to a client that can be asked what the tool asks."""

from tests.support.stdio_servers.speaking import Message, answer, greeted, heard, params


def tools(declared: object) -> list[Message]:
    conditional = [name for name in ("roots", "sampling") if isinstance(declared, dict) and name in declared]
    return [{"name": name, "inputSchema": {"type": "object"}} for name in ("echo", *conditional)]


def main() -> None:
    declared: object = {}
    for message in heard():
        if message.get("method") == "initialize":
            declared = params(message).get("capabilities")
        if greeted(message):
            continue
        match message.get("method"):
            case "tools/list":
                answer(message, {"tools": tools(declared)})
            case "tools/call":
                known = [one["name"] for one in tools(declared)]
                text = "hello" if params(message).get("name") in known else "no such tool"
                answer(message, {"content": [{"type": "text", "text": text}]})
            case "ping":
                answer(message, {})
            case _:
                pass


if __name__ == "__main__":
    main()
