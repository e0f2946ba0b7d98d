"""Clients that call a tool without pause while something is done to the cluster.

Owns two clients in threads: one in a session of 2025-06-18, one without sessions (2026-07-28). Deliberately of nothing
but the standard library, with one connection a call, as behind a Service. Invariant: a call that is not answered with
its result is a failure, whatever the reason, and nothing is called twice.
"""

import http.client
import json
import threading
import time
from typing import Final, Self

META: Final = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
PAUSE_S: Final = 0.02
"""Between two calls of one client; there are other tests on this machine."""


class Traffic:
    """Use as a context; ``where`` may be changed at any time, and new calls go there."""

    def __init__(self, where: str, host: str, tool: str) -> None:
        self.where, self.host, self.tool = where, host, tool
        self.calls = 0
        self.failures: list[str] = []
        self.session = self._begin_session()
        self._ends = threading.Event()
        clients = (self.call_in_session, self.call)
        self._threads = [threading.Thread(target=self._again, args=(call,), daemon=True) for call in clients]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join(30)

    def call_in_session(self) -> None:
        """Raises AssertionError: it was not answered with the result."""
        status, _, body = self._post(self._message(), {"Mcp-Session-Id": self.session})
        self._check(status, body)

    def call(self) -> None:
        """Without a session; raises AssertionError."""
        message = self._message(_meta=META)
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": self.tool}
        status, _, body = self._post(message, headers)
        self._check(status, body)

    def _again(self, call: "object") -> None:
        assert callable(call)
        while not self._ends.is_set():
            try:
                call()
            except (AssertionError, OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(f"{getattr(call, '__name__', '')}: {error!r}"[:500])
            self.calls += 1
            time.sleep(PAUSE_S)  # noqa: TID251  # a thread, outside of any loop

    def _begin_session(self) -> str:
        params = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
        message: dict[str, object] = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        status, headers, body = self._post(message, {})
        assert status == 200, body
        return headers["mcp-session-id"]

    def _message(self, **more: object) -> dict[str, object]:
        params = {"name": self.tool, "arguments": {"a": 2, "b": 3}, **more}
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

    def _post(self, message: object, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        own = {"Host": self.host, "Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        link = http.client.HTTPConnection(self.where, timeout=30)
        try:
            link.request("POST", "/mcp", json.dumps(message), {**own, **headers})
            response = link.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            link.close()

    def _check(self, status: int, body: bytes) -> None:
        assert status == 200, (status, body)
        text = next((line[5:] for line in body.splitlines() if line.startswith(b"data:")), body)
        assert json.loads(text)["result"]["structuredContent"] == {"sum": 5}, body
