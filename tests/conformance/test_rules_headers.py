"""Reference 1.2, T4, T7, T18 to T24 at their edges: mirrored values of every type, names, metadata of no use."""

import base64

import orjson
import pytest
from click.testing import CliRunner
from trio.testing import MockClock

from mcp_gateway.backends.transports.base import Hear
from mcp_gateway.cli import main
from mcp_gateway.protocol.eras import V2025_11_25, V2026_07_28, Era
from mcp_gateway.values import JsonObject, JsonValue
from tests.conformance.rule_steps import BACKENDS, CALL, error_of
from tests.support.scripted_gateway import MODERN, message, modern_request, scripted_gateway
from tests.support.scripted_link import Refusal, ScriptedBackend, ScriptedLink, tool

META = "io.modelcontextprotocol/"


def mirrored(kind: str) -> JsonObject:
    """A tool whose nested argument ``deep.value`` is mirrored into ``Mcp-Param-X-1``."""
    value: JsonObject = {"type": kind, "x-mcp-header": "X-1"}
    deep: JsonObject = {"type": "object", "properties": {"value": value}}
    return {"name": "read", "inputSchema": {"type": "object", "properties": {"deep": deep}}}


def base64_form(text: str) -> str:
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


@pytest.mark.parametrize(
    "kind, arguments, said, fits",
    [
        pytest.param("boolean", b'{"deep":{"value":true}}', "true", True, id="a boolean"),
        pytest.param("boolean", b'{"deep":{"value":true}}', "True", False, id="a boolean in another case"),
        pytest.param("boolean", b'{"deep":{"value":true}}', "1", False, id="a boolean is no number"),
        pytest.param("boolean", b'{"deep":{"value":false}}', None, False, id="false is a value"),
        pytest.param("integer", b'{"deep":{"value":0}}', None, False, id="zero is a value"),
        pytest.param("string", b'{"deep":{"value":""}}', None, False, id="an empty string is a value"),
        pytest.param("integer", b'{"deep":{"value":100}}', "1e2", True, id="an exponent"),
        pytest.param("integer", b'{"deep":{"value":1e2}}', "100", True, id="an exponent in the body"),
        pytest.param("integer", b'{"deep":{"value":-7}}', "-7.00", True, id="negative"),
        pytest.param("integer", b'{"deep":{"value":7}}', "+7", False, id="a plus sign is no JSON"),
        pytest.param("integer", b'{"deep":{"value":7}}', "0x7", False, id="hexadecimal"),
        pytest.param("integer", b'{"deep":{"value":7}}', "7 ", True, id="white space around"),
        pytest.param("integer", b'{"deep":{"value":7}}', "\u0667", False, id="another script's digit"),
        pytest.param("integer", b'{"deep":{"value":9007199254740991}}', "9007199254740991", True, id="the largest"),
        pytest.param("integer", b'{"deep":{"value":9007199254740991}}', "9007199254740992", False, id="one more"),
        pytest.param("integer", b'{"deep":{"value":9007199254740992}}', "9007199254740992", False, id="unsafe"),
        pytest.param("string", b'{"deep":{"value":"42"}}', "42.0", False, id="texts do not compare as numbers"),
        pytest.param("string", b'{"deep":{"value":" a "}}', " a ", False, id="white space that is lost"),
        pytest.param("string", b'{"deep":{"value":" a "}}', base64_form(" a "), True, id="white space in base64"),
        pytest.param("string", b'{"deep":{"value":"a\\nb"}}', base64_form("a\nb"), True, id="a newline in base64"),
        pytest.param("string", b'{"deep":{"value":"a"}}', "=?base64?YQ?=", False, id="no padding"),
        pytest.param("string", b'{"deep":{"value":"\\u00e9"}}', "\u00e9", False, id="beyond ASCII"),
        pytest.param("string", b'{"deep":{"value":"\\u00e9"}}', base64_form("\u00e9"), True, id="beyond ASCII, base64"),
        pytest.param("string", b'{"deep":{}}', None, True, id="absent"),
        pytest.param("string", b'{"deep":{}}', "", False, id="absent, but a header"),
        pytest.param("string", b'{"deep":null}', None, True, id="nothing to be in"),
        pytest.param("string", b'{"deep":[]}', None, True, id="not an object to be in"),
        pytest.param("string", None, None, True, id="no arguments"),
        pytest.param("string", None, "x", False, id="no arguments, but a header"),
        pytest.param("string", b'{"deep.value":"x"}', "x", False, id="a name that looks like a path"),
        pytest.param("string", b'{"deep":{"value":["x"]}}', "x", False, id="a type that cannot be mirrored"),
    ],
)
@pytest.mark.parametrize("era", BACKENDS)
async def test_T21_mirrored_values_of_every_type_equal_the_body(
    autojump_clock: MockClock, kind: str, arguments: bytes | None, said: str | None, fits: bool, era: Era
) -> None:
    backend = ScriptedBackend(era=era, tools=[mirrored(kind)])
    more: JsonObject = {} if said is None else {"mcp-param-x-1": said}
    headers, body = modern_request(CALL, {"name": "read"}, headers=more)
    if arguments is not None:
        body = body.replace(b'"name":"read"', b'"name":"read","arguments":%b' % arguments)
    async with scripted_gateway(backend) as where:
        reply = await where.send("POST", headers=headers, body=body)
        assert (reply.status, backend.asked(CALL)) == ((200, 1) if fits else (400, 0))
        if not fits:
            assert (error_of(reply)["code"], reply.answer["id"]) == (-32020, 1)


async def test_T21_what_is_mirrored_is_checked_before_anything_is_asked_of_a_server_that_is_gone(
    autojump_clock: MockClock,
) -> None:
    backend = ScriptedBackend(era=V2026_07_28, tools=[mirrored("string")])
    async with scripted_gateway(backend) as where:
        backend.up = False
        reply = await where.modern(CALL, {"name": "read", "arguments": {"deep": {"value": "a"}}})
        assert (reply.status, error_of(reply)["code"]) == (400, -32020)


@pytest.mark.parametrize("name", [5, None, ["read"], {"a": 1}])
async def test_T18_a_name_that_is_none_is_invalid_whatever_the_header_says(
    autojump_clock: MockClock, name: JsonValue
) -> None:
    backend = ScriptedBackend(era=V2026_07_28)
    async with scripted_gateway(backend) as where:
        for said in ("read", str(name)):
            reply = await where.modern(CALL, {"name": name}, headers={"Mcp-Name": said})
            assert error_of(reply)["code"] == -32602
        assert backend.asked(CALL) == 0


@pytest.mark.parametrize("name", ["x\ud800", "a\x00b", "a" * 5000, "\u2603" * 300])
async def test_T19_a_strange_name_is_unknown_and_never_a_fault(autojump_clock: MockClock, name: str) -> None:
    headers, body = modern_request(CALL, {"name": "?"})
    headers["Mcp-Name"] = base64_form(name.replace("\ud800", "?"))
    spelled = orjson.dumps("?") if "\ud800" not in name else b'"x\\ud800"'
    body = body.replace(b'"name":"?"', b'"name":' + (orjson.dumps(name) if "\ud800" not in name else spelled))
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        reply = await where.send("POST", headers=headers, body=body)
        assert error_of(reply)["code"] == (-32020 if "\ud800" in name else -32602)


async def test_T18_methods_without_a_name_need_none_and_any_is_ignored(autojump_clock: MockClock) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        for method in ("tools/list", "server/discover"):
            assert (await where.modern(method, headers={"Mcp-Name": "anything"})).status == 200


@pytest.mark.parametrize(
    "body",
    [
        b'{"jsonrpc":"2.0","method":5}',
        b'{"jsonrpc":"1.0","method":"notifications/x"}',
        b'{"jsonrpc":"2.0","method":"notifications/x","params":[]}',
    ],
)
async def test_T7_a_notification_that_cannot_be_accepted_is_400(autojump_clock: MockClock, body: bytes) -> None:
    async with scripted_gateway(ScriptedBackend()) as where:
        modern = await where.send("POST", headers={"MCP-Protocol-Version": MODERN}, body=body)
        legacy = await where.send("POST", headers=(await where.session()).headers(), body=body)
        for reply in (modern, legacy):
            assert (reply.status, reply.answer["id"], error_of(reply)["code"]) == (400, None, -32600)


async def test_T24_the_capability_that_is_missing_is_named_as_an_object(autojump_clock: MockClock) -> None:
    needed: JsonObject = {"requiredCapabilities": {"sampling": {}}}

    async def need(link: ScriptedLink, params: JsonObject, hear: Hear) -> JsonObject:
        raise Refusal(-32021, data=needed)

    async with scripted_gateway(ScriptedBackend(era=V2026_07_28, handlers={CALL: need})) as where:
        reply = await where.modern(CALL, {"name": "read"})
        assert (reply.status, error_of(reply)["data"]) == (400, needed)


@pytest.mark.parametrize("meta", [5, "x", [], None])
@pytest.mark.parametrize("member", ["protocolVersion", "clientCapabilities"])
async def test_T23_metadata_of_a_wrong_type_is_missing(autojump_clock: MockClock, member: str, meta: JsonValue) -> None:
    headers, body = modern_request("tools/list")
    request = orjson.loads(body)
    request["params"]["_meta"][META + member] = meta
    if member == "protocolVersion" and isinstance(meta, str):
        request["params"]["_meta"][META + member] = {}
    async with scripted_gateway(ScriptedBackend()) as where:
        reply = await where.send("POST", headers=headers, body=orjson.dumps(request))
        assert (reply.status, error_of(reply)["code"]) == (400, -32602)
        request["params"]["_meta"] = meta
        reply = await where.send("POST", headers=headers, body=orjson.dumps(request))
        assert (reply.status, error_of(reply)["code"]) == (400, -32602)


@pytest.mark.parametrize("level", [5, [], {}, "LOUD", "Info", True])
async def test_s1_10_a_log_level_of_a_wrong_type_is_32602_in_both_eras(
    autojump_clock: MockClock, level: JsonValue
) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2025_11_25, tools=[tool("read")])) as where:
        session = await where.session()
        for reply in (
            await where.modern(CALL, {"name": "read"}, level=level),
            await session.ask("logging/setLevel", {"level": level}),
        ):
            assert error_of(reply)["code"] == -32602


async def test_T13_a_modern_request_in_a_legacy_session_is_modern_and_leaves_the_session_alone(
    autojump_clock: MockClock,
) -> None:
    async with scripted_gateway(ScriptedBackend(era=V2026_07_28)) as where:
        session = await where.session()
        for method in ("tools/list", "ping", "logging/setLevel"):
            reply = await where.modern(method, {"level": "error"}, headers={"Mcp-Session-Id": session.id}, id="m")
            assert reply.status == (200 if method == "tools/list" else 404)
            assert reply.header(b"mcp-session-id") is None
        (live,) = where.gateway.context.sessions
        assert (live.log_level, live.calls) == (None, {})
        cancel = message("notifications/cancelled", {"requestId": 1, "_meta": {META + "protocolVersion": MODERN}})
        call = session.begin(CALL, {"name": "read"}, request_id=1)
        assert (await where.send("POST", headers=session.headers(), body=cancel)).status == 202
        await call.until(lambda: call.closed)
        assert "result" in call.answer


def test_T4_only_this_machine_is_listened_to_unless_told_otherwise() -> None:
    shown = CliRunner().invoke(main, ["serve", "--help"]).output
    assert "127.0.0.1:8080" in shown
    assert "127.0.0.1:9090" in shown
