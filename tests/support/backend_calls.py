"""Small pieces that tests of calls through a Backend share.

Owns nothing. Deliberately judges nothing. Invariant: no state is kept here.
"""

from collections.abc import Awaitable, Callable

import trio

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.config.spec import HealthSpec
from mcp_gateway.values import JsonObject
from tests.support.scripted_link import (
    ScriptedLink,
)

HOUR = HealthSpec(interval_s=3600.0)


def slow(seconds: float) -> Callable[[ScriptedLink, JsonObject, Hear], Awaitable[JsonObject]]:
    async def handler(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        await trio.sleep(seconds)
        return {"content": []}

    return handler
