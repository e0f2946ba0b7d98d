"""Small pieces that tests of calls through a Backend share.

Owns nothing. Deliberately judges nothing. Invariant: no state is kept here.
"""

from collections.abc import Awaitable, Callable

import trio

from mcp_gateway.backends.subscription import Subscription
from mcp_gateway.backends.transports.base import ClientIdentity, Hear
from mcp_gateway.config.spec import HealthSpec
from mcp_gateway.values import JsonObject
from tests.support.scripted_link import ScriptedLink, caller

HOUR = HealthSpec(interval_s=3600.0)


def slow(seconds: float) -> Callable[[ScriptedLink, JsonObject, Hear], Awaitable[JsonObject]]:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(seconds)
        return {"content": []}

    return handler


def wish(
    uri: str, told: list[str] | None = None, *, session: str | None = "a", identity: ClientIdentity | None = None
) -> Subscription:
    """A subscription of a client session (None: of a modern client), which writes ``session:uri`` into ``told``."""
    heard = told if told is not None else []
    return Subscription(caller=caller(session, identity), uri=uri, updated=lambda: heard.append(f"{session}:{uri}"))
