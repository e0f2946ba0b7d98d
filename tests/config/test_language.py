"""What a person sees as JSON is never read by the rules of YAML."""

import pytest

from mcp_gateway.config.document import Unparsable
from mcp_gateway.config.language import parse
from mcp_gateway.values import JsonValue
from tests.support.documents import value_of


@pytest.mark.parametrize("name", ["gateway", "gateway.yaml", "mcp.json", "mcp.jsonc", "MCP.JSON"])
@pytest.mark.parametrize("before", ["", "\ufeff", " \r\n\t", "// one\n", "/* { */ /* [ */", "\ufeff// {\r\n"])
def test_a_text_that_begins_with_a_brace_is_json(name: str, before: str) -> None:
    root, mistakes = parse(before + '{"a": {\n// "off": 1,\n"b": "\\/",\t},}', name)
    assert mistakes == ()
    assert value_of(root) == {"a": {"b": "/"}}


@pytest.mark.parametrize("text, value", [("\ufeffa: {b: 1}", {"a": {"b": 1}}), ("# x\n- {a: 1}", [{"a": 1}])])
def test_any_other_text_is_yaml(text: str, value: JsonValue) -> None:
    root, _ = parse(text, "gateway.yaml")
    assert value_of(root) == value


@pytest.mark.parametrize(
    "text, name, line, what",
    [
        pytest.param(
            "servers: []\n",
            "mcp.json",
            1,
            "not valid JSON: a value must be text in double quotes, a number, true, false, null, { or [ "
            "(the name of the file says JSON)",
            id="YAML in a .json file",
        ),
        pytest.param(
            "# mine\nservers: []\n",
            "mcp.jsonc",
            1,
            "not valid JSON: # begins no comment in JSON; write // instead (the name of the file says JSON)",
            id="a comment of YAML in a .jsonc file",
        ),
        pytest.param(
            "\n{servers: []}",
            "gateway.yaml",
            2,
            "not valid JSON: a key must be text in double quotes (a file that begins with { is read as JSON)",
            id="braces of YAML",
        ),
        pytest.param(
            "# mine\n{}",
            "gateway.yaml",
            1,
            "not valid JSON: # begins no comment in JSON; write // instead (a file that begins with { is read as JSON)",
            id="a comment of YAML before a brace",
        ),
        pytest.param(
            "\u00a0{}",
            "gateway.yaml",
            1,
            "not valid JSON: only spaces, tabs and line ends may stand here, no U+00A0 "
            "(a file that begins with { is read as JSON)",
            id="a no-break space before the brace",
        ),
        pytest.param("{", "mcp.json", 1, "not valid JSON: this { is never closed", id="no doubt that it is JSON"),
    ],
)
def test_a_refusal_says_why_it_was_read_as_json(text: str, name: str, line: int, what: str) -> None:
    with pytest.raises(Unparsable) as refused:
        parse(text, name)
    assert (refused.value.mistake.line, refused.value.mistake.what) == (line, what)
