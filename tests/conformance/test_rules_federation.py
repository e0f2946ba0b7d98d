"""Federation on real sockets: URIs of every kind lead home, whoever else has the same ones."""

import orjson
import pytest

from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.wire_backend import (
    LEGACY,
    MODERN,
    Reply,
    WireBackend,
    before,
    discovered,
    initialized,
    legacy_backend,
    modern_backend,
    page,
    params,
    tool,
    wire_backend,
)
from tests.support.gateway import Running, running_gateway
from tests.support.raw_client import Client2025, Client2026, Message
from tests.support.raw_http import RawRequest

pytestmark = pytest.mark.wire

ABILITIES: JsonObject = {"tools": {}, "prompts": {}, "resources": {}, "completions": {}}
VERSIONS = [pytest.param(LEGACY, id="2025 backend"), pytest.param(MODERN, id="2026 backend")]
URIS = (
    "file:///etc/motd",
    "FILE:///Upper",
    "urn:isbn:0451450523",
    "data:text/plain;base64,SGk/eA==",
    "http://[::1]:8080/a?b=c#d",
    "memo://",
    "memo:///",
    "memo://a%2Fb/%C3%A4?q=%20",
    "memo://größe/\u2603",
    "mcp-resource://already/there",
    "no-scheme/at all",
    "x:y",
)
TEMPLATES = {
    "memo://{id}/data": {"{id}": "7"},
    "{+path}": {"{+path}": "file:///any/where"},
    "search:items{?q,page}": {"{?q,page}": "?q=a&page=2"},
    "urn:x:{a}:{b}": {"{a}": "1", "{b}": "2"},
    "memo://fixed/{+rest}": {"{+rest}": "a/b/c"},
}


def expanded(template: str, values: dict[str, str]) -> str:
    for expression, value in values.items():
        template = template.replace(expression, value)
    return template


def served(version: str, name: str, uris: tuple[str, ...] = URIS, **more: Reply) -> dict[str, Reply]:
    """A server with these resources; what it reads says whose it is, and its tool and prompt link to the first."""

    def listing(kind: str, *items: JsonValue) -> Reply:
        return lambda request: page(kind, *items) if version == MODERN else {kind: list(items)}

    def kind(**members: JsonValue) -> JsonObject:
        return {**({"resultType": "complete"} if version == MODERN else {}), **members}

    def read(request: RawRequest) -> JsonObject:
        return kind(contents=[{"uri": params(request)["uri"], "text": name}])

    resources: list[JsonValue] = [{"uri": uri, "name": "r"} for uri in uris]
    templates: list[JsonValue] = [{"uriTemplate": one, "name": "t"} for one in TEMPLATES]
    block: JsonObject = {"type": "resource", "resource": {"uri": uris[0], "text": "x"}}
    link: JsonObject = {"type": "resource_link", "uri": uris[0], "name": "l"}
    greeting = discovered(ABILITIES) if version == MODERN else initialized(LEGACY, ABILITIES)
    replies: dict[str, Reply] = {
        "server__discover" if version == MODERN else "initialize": greeting,
        "resources__list": listing("resources", *resources),
        "resources__templates__list": listing("resourceTemplates", *templates),
        "resources__read": read,
        "prompts__list": listing("prompts", {"name": "ask"}),
        "prompts__get": lambda request: kind(messages=[{"role": "user", "content": block}]),
        "tools__call": lambda request: kind(content=[link, block], _meta={"ui": {"resourceUri": uris[0]}}),
        "completion__complete": lambda request: kind(completion={"values": [name]}),
    }
    if version == MODERN:
        return modern_backend(tool("show"), **replies, **more)
    return legacy_backend(tool("show"), version=LEGACY, **replies, **more)


async def both_clients(running: Running) -> tuple[Client2025, Client2026]:
    old, new = Client2025(url=running.url), Client2026(url=running.url)
    await old.initialize()
    return old, new


def read_by(backend: WireBackend) -> list[str]:
    return [params(request)["uri"] for request in backend.asked("resources/read")]


@pytest.mark.parametrize("version", VERSIONS)
async def test_s1_10_every_uri_and_expanded_template_leads_back_to_its_own(version: str) -> None:
    async with wire_backend(served(version, "f"), session="s") as backend, before(backend, protocol=version) as running:
        for client in await both_clients(running):
            listed = await client.list("resources")
            assert len(set(listed)) == len(URIS)
            for uri, own in zip(listed, URIS, strict=True):
                answer = await client.ask("resources/read", uri=uri)
                assert answer["result"]["contents"] == [{"uri": uri, "text": "f"}]
                assert read_by(backend)[-1] == own
            templates = await client.list("resources/templates")
            for template, (own_template, values) in zip(templates, TEMPLATES.items(), strict=True):
                mapped, expansion = expanded(template, values), expanded(own_template, values)
                assert mapped != expansion
                answer = await client.ask("resources/read", uri=mapped)
                assert answer["result"]["contents"] == [{"uri": mapped, "text": "f"}]
                assert read_by(backend)[-1] == expansion
                ref = {"type": "ref/resource", "uri": template}
                context = {"arguments": {"other": "1.50"}}
                await client.ask("completion/complete", ref=ref, argument={"name": "a", "value": "b"}, context=context)
                asked = params(backend.asked("completion/complete")[-1])
                assert (asked["ref"], asked["context"]) == ({**ref, "uri": own_template}, context)
            client.hang_up()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("prefixes", [("a_", "b_"), ("", "b_"), ("", "")], ids=["prefixes", "one plain", "both plain"])
async def test_s1_10_links_of_two_servers_with_the_same_uris_lead_to_who_named_them(
    version: str, prefixes: tuple[str, str]
) -> None:
    async with (
        wire_backend(served(version, "a"), session="s") as one,
        wire_backend(served(version, "b"), session="s") as two,
    ):
        servers = [
            {"name": name, "url": backend.url, "prefix": prefix, "protocol": version, "tools": {"include": ["show"]}}
            for name, backend, prefix in zip(("a", "b"), (one, two), prefixes, strict=True)
        ]
        async with running_gateway(servers) as running:
            old, new = await both_clients(running)
            for client in (old, new):
                listed = await client.list("resources")
                assert len(set(listed)) == 2 * len(URIS)
                for name in await client.list("tools"):
                    owner = "b" if name == "b_show" else "a"
                    result: Message = (await client.call(name))["result"]
                    link, block = result["content"]
                    uri = result["_meta"]["ui"]["resourceUri"]
                    assert uri == link["uri"] == block["resource"]["uri"]
                    assert uri in listed
                    assert (await client.ask("resources/read", uri=uri))["result"]["contents"][0]["text"] == owner
                for name in await client.list("prompts"):
                    owner = "b" if name == "b_ask" else "a"
                    (said,) = (await client.ask("prompts/get", name=name))["result"]["messages"]
                    uri = said["content"]["resource"]["uri"]
                    assert (await client.ask("resources/read", uri=uri))["result"]["contents"][0]["text"] == owner
                for uri, owner in zip(listed, "a" * len(URIS) + "b" * len(URIS), strict=True):
                    assert (await client.ask("resources/read", uri=uri))["result"]["contents"][0]["text"] == owner
                client.hang_up()


async def test_s1_10_a_link_to_a_uri_that_another_plain_server_owns_leads_home() -> None:
    late = served(MODERN, "late", ("memo://one", "memo://own"), tools__list=lambda request: page("tools", tool("late")))
    async with wire_backend(served(MODERN, "first", ("memo://one",))) as one, wire_backend(late) as two:
        servers = [
            {"name": name, "url": backend.url, "prefix": ""} for name, backend in (("first", one), ("late", two))
        ]
        async with running_gateway(servers) as running:
            old, new = await both_clients(running)
            for client in (old, new):
                assert await client.list("resources") == ["memo://one", "memo://late/one", "memo://own"]
                for name, uri, text in (("show", "memo://one", "first"), ("late", "memo://late/one", "late")):
                    link = (await client.call(name))["result"]["content"][0]
                    assert link["uri"] == uri
                    contents = (await client.ask("resources/read", uri=uri))["result"]["contents"]
                    assert contents == [{"uri": uri, "text": text}]
                client.hang_up()
            assert set(read_by(two)) == {"memo://one"}


async def test_invariant_9_the_same_lists_give_the_same_uris_after_a_restart() -> None:
    async with wire_backend(served(MODERN, "f")) as backend:
        seen = []
        for _ in range(2):
            async with before(backend) as running, running.client2026() as client:
                lists = [await client.ask(f"{kind}/list") for kind in ("tools", "prompts", "resources")]
                seen.append(orjson.dumps([one["result"] for one in lists]))
        assert seen[0] == seen[1]
