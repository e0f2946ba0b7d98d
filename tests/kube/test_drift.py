"""The CRDs and the code's view of them say the same."""

from pathlib import Path

import attrs
import pytest
import yaml

from mcp_gateway.kube.schema import GENERATION, Kind
from tests.kube.crds import FILES, FOLDER, crd, leaves, schema, schemas

PLURALS = [kind.plural for kind in GENERATION.kinds]
FIELDS = [
    (GENERATION.registration, GENERATION.registration_fields),
    (GENERATION.extension, GENERATION.extension_fields),
    (GENERATION.virtual_server, GENERATION.virtual_server_fields),
    (GENERATION.report, GENERATION.report_fields),
]


def test_every_kind_has_a_crd_and_no_crd_is_for_anything_else() -> None:
    assert sorted(file.stem for file in FILES) == sorted(PLURALS)
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    assert listed["resources"] == [file.name for file in FILES]


@pytest.mark.parametrize("kind", GENERATION.kinds, ids=lambda kind: kind.kind)
def test_crd_defines_the_kind_that_the_code_names(kind: Kind) -> None:
    spec = crd(kind.plural)["spec"]
    assert crd(kind.plural)["metadata"]["name"] == kind.resource
    assert (spec["group"], spec["names"]["kind"], spec["names"]["plural"]) == (kind.group, kind.kind, kind.plural)
    assert [(version["name"], version["served"], version["storage"]) for version in spec["versions"]] == [
        (kind.version, True, True)
    ]
    assert spec["scope"] == "Namespaced"


@pytest.mark.parametrize("kind, fields", FIELDS, ids=lambda value: getattr(value, "kind", ""))
def test_spec_has_exactly_the_fields_that_the_code_reads(kind: Kind, fields: attrs.AttrsInstance) -> None:
    assert sorted(leaves(schema(kind.plural, "spec"))) == sorted(attrs.asdict(fields).values())


def test_status_has_only_fields_that_the_code_writes() -> None:
    known = set(attrs.asdict(GENERATION.status_fields).values())
    written = {name for plural in PLURALS for name in schema(plural, "status").get("properties", {})}
    assert written == known


@pytest.mark.parametrize("plural", PLURALS)
def test_every_field_has_a_description_that_ends_like_a_sentence(plural: str) -> None:
    for part in ("spec", "status"):
        for path, found in schemas(schema(plural, part), part):
            if found:
                assert found.get("description", "").endswith("."), f"{plural} {path}"


@pytest.mark.parametrize("plural", PLURALS)
def test_every_text_and_list_has_a_bound(plural: str) -> None:
    for part in ("spec", "status"):
        for path, found in schemas(schema(plural, part), part):
            bounded = {"maxLength", "enum", "format", "pattern"} & found.keys()
            assert found.get("type") != "string" or bounded, f"{plural} {path}"
            assert found.get("type") != "array" or "maxItems" in found, f"{plural} {path}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_crd_fits_into_an_annotation_of_client_side_apply(file: Path) -> None:
    assert file.stat().st_size < 256 * 1024
