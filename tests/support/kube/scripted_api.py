"""An API server by script, for what a real one cannot be made to do on cue: silence, floods of 410, cut watches.

Owns the answers; the requests are made by the real ``Api`` over a transport of this module. Honest in what it
re-implements, which is nothing: each test says what is answered.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

import attrs
import httpx2
import orjson
import trio

from mcp_gateway.kube.api import Api
from mcp_gateway.kube.cluster import Cluster
from mcp_gateway.values import JsonObject

Handler: TypeAlias = Callable[[httpx2.Request], Awaitable[httpx2.Response]]


class FixedCluster(Cluster):
    """Somewhere, as somebody; each new look at the credentials gives another token."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def url(self) -> str:
        """Nobody dials it."""
        return "https://cluster.test"

    @property
    def server_name(self) -> str | None:
        """The address's own."""
        return None

    async def authorization(self, *, anew: bool = False) -> str | None:
        """The token of the last look."""
        await trio.lowlevel.checkpoint()
        self.looks += anew
        return f"Bearer token-{self.looks}"


@attrs.define(eq=False)
class _Transport(httpx2.AsyncBaseTransport):
    handler: Handler

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """See ``httpx2.AsyncBaseTransport``; the time that the client allows for reading is enforced here."""
        allowed = request.extensions.get("timeout", {}).get("read")
        with trio.move_on_after(trio.CancelScope().deadline if allowed is None else allowed):
            return await self.handler(request)
        raise httpx2.ReadTimeout("silent", request=request)


@asynccontextmanager
async def scripted_api(handler: Handler) -> AsyncIterator[Api]:
    """An ``Api`` whose requests are answered by ``handler``."""
    async with httpx2.AsyncClient(transport=_Transport(handler), base_url="https://cluster.test") as client:
        yield Api(cluster=FixedCluster(), manager="tests", requests=client, watches=client)


def answer(value: JsonObject, status: int = 200, **headers: str) -> httpx2.Response:
    """A whole answer."""
    return httpx2.Response(
        status, content=orjson.dumps(value), headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def refusal(status: int, reason: str = "", **headers: str) -> httpx2.Response:
    """A ``Status`` that says no."""
    value: JsonObject = {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": "no"}
    return answer(value, status, **headers)


class Lines(httpx2.AsyncByteStream):
    """The body of a watch: what is put in, until it is ended or broken."""

    def __init__(self, silence_s: float = 1e9) -> None:
        self._send, self._receive = trio.open_memory_channel[bytes | Exception](100)
        self._silence_s = silence_s

    def say(self, type: str, value: JsonObject) -> None:  # noqa: A002  # as the watch calls it
        """One event."""
        self._send.send_nowait(orjson.dumps({"type": type, "object": value}) + b"\n")

    def end(self) -> None:
        """The server ends the watch."""
        self._send.close()

    def cut(self) -> None:
        """The connection breaks."""
        self._send.send_nowait(httpx2.ReadError("connection reset"))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(self._silence_s):
            try:
                some = await self._receive.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
            if isinstance(some, Exception):
                raise some
            return some
        raise httpx2.ReadTimeout("silent")
