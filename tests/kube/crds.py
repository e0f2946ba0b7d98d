"""Our CRDs as the files have them, for tests that hold them against something else."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).resolve().parent.parent.parent / "manifests" / "crds"
FILES: Final = tuple(sorted(FOLDER.glob("mcp*.yaml")))


def crd(plural: str) -> dict[str, Any]:
    """One CustomResourceDefinition."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / f"{plural}.yaml").read_text())
    return found


def schema(plural: str, part: str) -> dict[str, Any]:
    """The schema of ``spec`` or ``status``; empty when there is none."""
    found: dict[str, Any] = crd(plural)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].get(part, {})
    return found


def leaves(part: dict[str, Any], path: str = "") -> Iterator[str]:
    """The paths of all values; the items of a list of objects are below ``[]``."""
    if part.get("type") == "array" and "properties" in part["items"]:
        yield from leaves(part["items"], f"{path}[]")
    elif "properties" in part:
        for name, below in part["properties"].items():
            yield from leaves(below, f"{path}.{name}" if path else name)
    else:
        yield path


def schemas(part: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema inside one, itself included, each with where it stands."""
    yield path, part
    for name, below in part.get("properties", {}).items():
        yield from schemas(below, f"{path}.{name}")
    if "items" in part:
        yield from schemas(part["items"], f"{path}[]")
