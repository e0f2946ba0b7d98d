"""What kustomize makes of the folder ``manifests``, with components and without.

Owns the folders that the product has and how they are put together. Deliberately sends nothing to a server.
Invariant: what a test builds is what ``kubectl apply -k`` would send.
"""

import functools
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import yaml

from mcp_gateway.values import JsonObject
from tests.support.kube import assets

MANIFESTS: Final = Path(__file__).resolve().parent.parent.parent.parent / "manifests"


def folders(kind: str) -> list[str]:
    """The kustomizations below one folder of ``manifests``, as paths from there."""
    return sorted(str(path.parent.relative_to(MANIFESTS)) for path in MANIFESTS.glob(f"{kind}/*/kustomization.yaml"))


def combined(into: Path, resource: str, *components: str) -> Path:
    """A kustomization of a user's own: one of ours with some of our components."""
    into.mkdir(parents=True, exist_ok=True)
    document = {
        "resources": [os.path.relpath(MANIFESTS / resource, into)],
        "components": [os.path.relpath(MANIFESTS / component, into) for component in components],
    }
    (into / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return into


@functools.cache
def build(folder: Path | str) -> list[JsonObject]:
    """Every object of a kustomization; a name is that of one below ``manifests``."""
    done = subprocess.run(  # noqa: TID251  # outside of any loop
        [str(assets.program("kubectl")), "kustomize", str(MANIFESTS / folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr  # it warns of what the next version refuses
    return [value for value in yaml.safe_load_all(done.stdout) if isinstance(value, dict)]


def names(objects: Sequence[JsonObject]) -> set[str]:
    """Each as ``Kind namespace/name``."""
    return {f"{one['kind']} {name(one)}" for one in objects}


def name(value: JsonObject) -> str:
    """``namespace/name``, or the name alone."""
    metadata = value["metadata"]
    assert isinstance(metadata, dict)
    namespace = metadata.get("namespace")
    return f"{namespace}/{metadata['name']}" if namespace else str(metadata["name"])
