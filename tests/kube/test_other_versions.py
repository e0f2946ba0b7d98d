"""A data plane beside a controller of another version: what one wrote is read by the other, or refused by name."""

from pathlib import Path
from typing import Final

from mcp_gateway.config.compiled import read_compiled
from mcp_gateway.kube import schema
from mcp_gateway.kube.reconcile import registration
from mcp_gateway.kube.reconcile.compile import document
from tests.support.cluster import LATER, SERVER, heard, report, seed, server_said

COMPILED: Final = Path(__file__).resolve().parent / "compiled"


def test_what_the_first_version_compiled_is_read_and_nothing_of_it_is_odd() -> None:
    compiled = read_compiled((COMPILED / "schema-1.json").read_bytes())
    assert [server.key for server in compiled.spec.servers] == ["mcp-test/my-mcp-server"]
    assert [one.name for one in compiled.spec.virtual_servers] == ["mcp-test/finance"]
    assert [one.name for one in compiled.spec.gateways] == ["mcp-test/mcp-extension"]
    assert (compiled.refused, compiled.notes) == ({}, ())


def test_of_what_a_newer_version_compiled_that_is_served_which_is_understood() -> None:
    compiled = read_compiled((COMPILED / "schema-2.json").read_bytes())
    assert [server.key for server in compiled.spec.servers] == ["mcp-test/plain"]
    assert {place for place, one in compiled.refused.items() if one.unsupported} == {
        ("servers", "mcp-test/guarded"),
        ("virtualServers", "mcp-test/hours"),
        ("gateways", "other/extension"),
    }
    assert "servers.mcp-test/plain.color: unknown key: ignored" in compiled.notes


def test_a_word_of_a_newer_pod_that_is_not_known_is_no_failure() -> None:
    view = seed().store()
    revision = document(view).servers[SERVER]
    said = {**server_said(revision, "Hibernating"), "dreams": ["sheep"]}
    outcome = registration.reconcile(SERVER, view, heard(report(servers=[said], moods={"good": True})), LATER)
    assert outcome.status is not None
    conditions = outcome.status.status["conditions"]
    assert isinstance(conditions, list)
    found = {str(one["type"]): one for one in conditions if isinstance(one, dict)}
    assert (found[schema.CONNECTED]["status"], found[schema.CONNECTED]["reason"]) == ("Unknown", "Connecting")
    assert found[schema.READY]["status"] != "True"
