"""The user's document, step 4: its shell lines, character for character, against a gateway."""

import json
import os
import shutil
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.support import peers
from tests.support.gateway import running_gateway

pytestmark = [pytest.mark.wire, pytest.mark.slow]

SCRIPT: Final = Path(__file__).with_name("seed_step4.sh")
HOST: Final = "mcp.127-0-0-1.sslip.io:8001"
"""What the document calls the gateway; a resolver of the test's own makes it the gateway's address."""


def lines_of(output: str) -> tuple[dict[str, object], str, dict[str, object]]:
    """The two answers of the gateway, and what stands between them."""
    decoder = json.JSONDecoder()
    first, end = decoder.raw_decode(output)
    said, newline, rest = output[end:].lstrip().partition("\n")
    second, _ = decoder.raw_decode(rest)
    assert newline
    return first, said, second


async def test_step_4_of_the_document_works_as_written(tmp_path: Path) -> None:
    for program in ("bash", "curl"):
        if shutil.which(program) is None:
            pytest.skip(f"no program {program} on this machine")
    async with (
        peers.mcp2_server() as peer,
        running_gateway([{"name": "my-mcp-server", "url": peer.url, "toolPrefix": "myserver_"}]) as running,
    ):
        address = running.url.removeprefix("http://").removesuffix("/mcp")
        (tmp_path / ".curlrc").write_text(
            f'connect-to = "{HOST}:{address}"\nnoproxy = "*"\nshow-error\nmax-time = 10\n'
        )
        done = await trio.run_process(
            ["bash", "-e", str(SCRIPT)],
            capture_stdout=True,
            capture_stderr=True,
            env={**os.environ, "CURL_HOME": str(tmp_path), "HOME": str(tmp_path)},
        )
    hello, said, answer = lines_of(done.stdout.decode())
    assert isinstance(hello["result"], dict)
    assert hello["result"]["protocolVersion"] == "2025-06-18"
    label, _, session_id = said.partition(": ")
    assert label == "MCP Session ID"
    assert session_id.startswith("1.")
    assert isinstance(answer["result"], dict)
    names = [tool["name"] for tool in answer["result"]["tools"]]
    assert "myserver_echo" in names
    assert all(name.startswith("myserver_") for name in names)
