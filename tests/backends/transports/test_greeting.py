"""What a backend says of itself, read in either era."""

from collections.abc import Callable

import pytest

from mcp_gateway.backends.transports import greeting
from mcp_gateway.backends.transports.base import Hello
from mcp_gateway.protocol.eras import V2026_07_28
from mcp_gateway.values import BackendKey, JsonObject, JsonValue

KEY = BackendKey("files")


def initialized(said: JsonObject) -> Hello:
    return greeting.initialized(KEY, {"protocolVersion": "2025-11-25", **said})


def discovered(said: JsonObject) -> Hello:
    return greeting.discovered(said, V2026_07_28)


@pytest.mark.parametrize("read", [initialized, discovered])
@pytest.mark.parametrize(
    "said, kept",
    [
        pytest.param("Ask twice.", "Ask twice.", id="usual"),
        pytest.param("Ask\x00 \u202etwice\u202c.\x1b[2J\r\n", "Ask twice.[2J", id="what cannot be seen"),
        pytest.param("x" * 100_000, "x" * 1018 + " [...]", id="long"),
        pytest.param(["Ask"], "", id="no text"),
        pytest.param(None, "", id="null"),
    ],
)
def test_instructions_are_plain_and_short_from_the_first_moment(
    read: Callable[[JsonObject], Hello], said: JsonValue, kept: str
) -> None:
    assert read({"instructions": said}).instructions == kept
