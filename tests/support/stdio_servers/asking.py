"""A tool that asks its user something and answers with what it was told."""

from tests.support.stdio_servers import speaking

TOOL = {"name": "ask", "inputSchema": {"type": "object"}}
FORM = {"message": "who?", "requestedSchema": {"type": "object", "properties": {}}}


def main() -> None:
    call: speaking.Message = {}
    for message in speaking.heard():
        if speaking.greeted(message):
            continue
        if message.get("method") == "tools/list":
            speaking.answer(message, {"tools": [TOOL]})
        elif message.get("method") == "tools/call":
            call = message
            speaking.say({"id": "q", "method": "elicitation/create", "params": FORM})
        elif message.get("id") == "q":
            said = message.get("result")
            text = str(said.get("action")) if isinstance(said, dict) else "nothing"
            speaking.answer(call, {"content": [{"type": "text", "text": text}]})
        elif message.get("method") == "ping":
            speaking.answer(message, {})


if __name__ == "__main__":
    main()
