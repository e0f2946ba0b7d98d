"""The configuration of a data plane: what changes it, and what never does."""

# writing a few bytes into a temporary folder keeps nobody waiting

import base64
import gzip
from pathlib import Path

import httpx2
import orjson
import pytest
import trio

from mcp_gateway.config.source import Configuration
from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api
from mcp_gateway.kube.config_source import SecretSource
from mcp_gateway.values import JsonObject, JsonValue
from tests.support.kube.scripted_api import Lines, answer, refusal, scripted_api

SOON_S = 5.0


def packed(*names: str) -> bytes:
    servers: list[JsonValue] = [{"name": name, "url": f"http://{name}.test/mcp"} for name in names]
    return gzip.compress(orjson.dumps({"schema": 1, "servers": servers, "gateways": []}))


def secret(content: bytes | str | None, version: int = 1) -> JsonObject:
    metadata: JsonObject = {"name": schema.CONFIG_SECRET, "resourceVersion": str(version)}
    if content is None:
        return {"metadata": metadata}
    text = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    return {"metadata": metadata, "data": {schema.CONFIG_KEY: text}}


class Server:
    """Lists the Secret that there is, and tells what happens to it."""

    def __init__(self, *items: JsonObject) -> None:
        self.items = items
        self.lines = Lines()
        self.away = False

    async def handle(self, request: httpx2.Request) -> httpx2.Response:
        await trio.lowlevel.checkpoint()
        assert request.url.params["fieldSelector"] == f"metadata.name={schema.CONFIG_SECRET}"
        if self.away:
            return refusal(403, "Forbidden")
        if "watch" in request.url.params:
            return httpx2.Response(200, stream=self.lines)
        return answer({"items": [*self.items], "metadata": {"resourceVersion": "1"}})


def names(configuration: Configuration) -> list[str]:
    return [server.key for server in configuration.spec.value.servers]


async def settled(configuration: Configuration, *expected: str) -> None:
    with trio.fail_after(SOON_S):
        while names(configuration) != list(expected):
            await configuration.spec.changed(configuration.spec.version)


async def follow(api: Api, nursery: trio.Nursery, source: SecretSource) -> Configuration:
    configuration = Configuration.begin(source.name, await source.first())
    nursery.start_soon(source.follow, configuration)
    return configuration


async def test_the_secret_is_served_and_followed() -> None:
    server = Server(secret(packed("a")))
    async with scripted_api(server.handle) as api, trio.open_nursery() as nursery:
        source = SecretSource(api=api, namespace="n")
        configuration = await follow(api, nursery, source)
        assert configuration.status.value.loaded_at_unix_s is None
        await settled(configuration, "a")
        assert source.compiled.value is not None
        server.lines.say("MODIFIED", secret(packed("a", "b"), 2))
        await settled(configuration, "a", "b")
        server.lines.say("MODIFIED", secret(packed(), 3))
        await settled(configuration)
        nursery.cancel_scope.cancel("seen enough")


@pytest.mark.parametrize(
    "type_, content",
    [
        pytest.param("DELETED", packed("a"), id="deleted"),
        pytest.param("MODIFIED", None, id="without data"),
        pytest.param("MODIFIED", "", id="emptied"),
        pytest.param("MODIFIED", "*garbage*", id="no base64"),
        pytest.param("MODIFIED", b"garbage", id="no gzip"),
        pytest.param("MODIFIED", gzip.compress(b'{"schema": 99}'), id="a schema that is too new"),
    ],
)
async def test_nothing_that_happens_to_the_secret_takes_the_configuration_away(
    type_: str, content: bytes | str | None
) -> None:
    server = Server(secret(packed("a")))
    async with scripted_api(server.handle) as api, trio.open_nursery() as nursery:
        configuration = await follow(api, nursery, SecretSource(api=api, namespace="n"))
        await settled(configuration, "a")
        server.lines.say(type_, secret(content, 2))
        server.lines.say("MODIFIED", secret(packed("a", "b"), 3))
        await settled(configuration, "a", "b")
        assert configuration.status.value.error is None
        nursery.cancel_scope.cancel("seen enough")


async def test_what_cannot_be_used_is_said_in_the_status() -> None:
    server = Server(secret(gzip.compress(b'{"schema": 99}')))
    async with scripted_api(server.handle) as api, trio.open_nursery() as nursery:
        configuration = await follow(api, nursery, SecretSource(api=api, namespace="n"))
        with trio.fail_after(SOON_S):
            while configuration.status.value.error is None:
                await configuration.status.changed(configuration.status.version)
        assert "schema 99" in configuration.status.value.error
        nursery.cancel_scope.cancel("seen enough")


async def test_without_a_secret_or_an_api_server_nothing_is_served_yet() -> None:
    server = Server()
    async with scripted_api(server.handle) as api, trio.open_nursery() as nursery:
        configuration = await follow(api, nursery, SecretSource(api=api, namespace="n"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert configuration.status.value.loaded_at_unix_s is None
        nursery.cancel_scope.cancel("seen enough")


async def test_a_restart_while_the_api_server_is_away_serves_the_copy(tmp_path: Path) -> None:
    (tmp_path / schema.CONFIG_KEY).write_bytes(packed("a"))
    server = Server()
    server.away = True
    async with scripted_api(server.handle) as api, trio.open_nursery() as nursery:
        source = SecretSource(api=api, namespace="n", copy=tmp_path)
        configuration = await follow(api, nursery, source)
        assert names(configuration) == ["a"]
        assert source.compiled.value is not None
        nursery.cancel_scope.cancel("seen enough")


@pytest.mark.parametrize("content", [pytest.param(None, id="no file"), pytest.param(b"garbage", id="garbage")])
async def test_a_copy_that_cannot_be_used_is_as_none(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / schema.CONFIG_KEY).write_bytes(content)
    async with scripted_api(Server().handle) as api:
        assert await SecretSource(api=api, namespace="n", copy=tmp_path).first() is None
