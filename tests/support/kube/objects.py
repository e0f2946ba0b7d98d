"""Objects of a cluster, applied and read with one HTTP request each.

Owns the way from a document to the API server. Deliberately without kubectl, whose start takes longer than what is
measured. Invariant: everything is applied on the server's side and validated strictly, as our documents say.
"""

import contextlib
import http
import http.client
import json
from collections.abc import Mapping
from typing import Any, Final

from mcp_gateway.kube import schema
from mcp_gateway.kube.schema import Kind
from tests.support.kube.apiserver import ApiServer

Document = dict[str, Any]
"""An object as the API server takes and gives it; a test looks into it freely."""

KINDS: Final[Mapping[str, Kind]] = {kind.kind: kind for kind in schema.WATCHED}


class Objects:
    """As an administrator."""

    def __init__(self, api: ApiServer) -> None:
        self._link = http.client.HTTPSConnection("127.0.0.1", api.port, timeout=60, context=api.trust())

    def apply(self, *documents: Document) -> None:
        """Create or change each."""
        for document in documents:
            options = "?fieldManager=tests&force=true&fieldValidation=Strict"
            self._ask("PATCH", _path(document) + options, document, "application/apply-patch+yaml")

    def delete(self, *documents: Document) -> None:
        """Delete each; one that is not there is no fault."""
        for document in documents:
            self._ask("DELETE", _path(document), missing=True)

    def write_status(self, document: Document) -> None:
        """Replace an object's status, as its controller would."""
        self._ask("PATCH", f"{_path(document)}/status", document, "application/merge-patch+json")

    def get(self, kind: str, namespace: str, name: str) -> Document:
        """One object; empty: it is not there."""
        return self._ask("GET", _path_of(KINDS[kind], namespace, name), missing=True)

    def _ask(
        self, verb: str, path: str, body: Document | None = None, media: str = "", missing: bool = False
    ) -> Document:
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": media} if media else {}
        try:
            self._link.request(verb, path, content, headers)
            answer = self._link.getresponse()
        except (http.client.RemoteDisconnected, ConnectionError):  # it was idle for long, or the server began anew
            self._link.close()
            self._link.request(verb, path, content, headers)
            answer = self._link.getresponse()
        value = answer.read()
        if missing and answer.status == http.HTTPStatus.NOT_FOUND:
            return {}
        assert answer.status < http.HTTPStatus.MULTIPLE_CHOICES, f"{verb} {path}: {value.decode()}"
        found: Document = json.loads(value)
        return found

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._link.close()


def condition(document: Document, type_: str) -> Document:
    """One condition of an object; empty: it has none such."""
    conditions = document.get("status", {}).get("conditions", ())
    return next((one for one in conditions if one["type"] == type_), {})


def _path(document: Document) -> str:
    metadata = document["metadata"]
    return _path_of(KINDS[document["kind"]], metadata.get("namespace", ""), metadata["name"])


def _path_of(kind: Kind, namespace: str, name: str) -> str:
    root = f"/apis/{kind.api_version}" if kind.group else f"/api/{kind.version}"
    inside = f"/namespaces/{namespace}" if kind.namespaced else ""
    return f"{root}{inside}/{kind.plural}/{name}"
