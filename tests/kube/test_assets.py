"""Where the programs of the tests are looked for, and what is said when they are missing."""

from pathlib import Path

import pytest

from tests.support import peers
from tests.support.kube import assets


def test_the_version_is_the_one_that_the_recipe_pins() -> None:
    assert assets.version().count(".") == 2


def test_a_named_folder_comes_before_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    assert assets.folder() == tmp_path / "cache" / "mcp-gateway" / "kube" / assets.version()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path / "named"))
    assert assets.program("etcd") == tmp_path / "named" / "etcd"


def test_missing_programs_skip_with_one_line_that_says_how_to_get_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.delenv("MCP_GATEWAY_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^kube: no etcd, kube-apiserver, kubectl in .*`just kube-assets`"):
        peers.require("kube")


def test_missing_programs_fail_where_they_are_required(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.setenv("MCP_GATEWAY_REQUIRE", "peers,kube")
    with pytest.raises(pytest.fail.Exception, match="kube is required here"):
        peers.require("kube")


def test_helm_is_required_where_kube_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    monkeypatch.delenv("MCP_GATEWAY_REQUIRE", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^helm: no helm in .*`just kube-assets`"):
        peers.require("helm")
    monkeypatch.setenv("MCP_GATEWAY_REQUIRE", "kube")
    with pytest.raises(pytest.fail.Exception, match="helm is required here"):
        peers.require("helm")
