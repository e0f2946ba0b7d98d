"""What a machine lacks is a skip with one line, or a failure where it is required."""

import pytest

from tests.support import peers


@pytest.fixture(autouse=True)
def empty_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")


def test_missing_program_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MCP_GATEWAY_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match="nginx: no program nginx on this machine"):
        peers.require("nginx")


def test_missing_program_fails_the_test_where_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_GATEWAY_REQUIRE", "peers, nginx")
    with pytest.raises(pytest.fail.Exception, match="nginx is required here"):
        peers.require("nginx")


def test_packages_are_downloaded_only_where_that_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_GATEWAY_REQUIRE", "peers")
    with pytest.raises(pytest.skip.Exception, match="registry"):
        peers.require("registry")
    monkeypatch.setenv("MCP_GATEWAY_REQUIRE", "peers,registry")
    peers.require("registry")


def test_other_requirements_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MCP_GATEWAY_REQUIRE", "peers,node")
    with pytest.raises(pytest.skip.Exception):
        peers.require("redis")
