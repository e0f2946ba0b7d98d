"""An administrator of the test's API server, without kubectl: one connection, no process for each question.

Owns how objects are asked for and written by kind. Deliberately judges nothing: a refusal is an ``ApiRefused`` that the
test expects or fails with. Invariant: one thread uses one ``Admin``.
"""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from typing import Final, Self

import attrs

from mcp_gateway.kube.api import path_of, refused
from mcp_gateway.kube.schema import Kind
from mcp_gateway.values import JsonObject
from tests.support.kube.apiserver import ApiServer

ANSWER_S: Final = 30.0


class Admin:
    """Use as a context."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api
        self._link = self._connect()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._api.port, timeout=ANSWER_S, context=self._api.trust())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._link.close()

    def ask(self, verb: str, path: str, body: object = None, form: str = "application/json") -> JsonObject:
        """One request.

        Raises:
            ApiRefused: the server said no.
            OSError: it is away.
        """
        content = None if body is None else json.dumps(body).encode()
        try:
            answer, said = self._send(verb, path, content, form)
        except (OSError, http.client.HTTPException):
            answer, said = self._send(verb, path, content, form)  # the server was restarted since
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise refused(f"{verb} {path}", answer.status, said, answer.headers.get("retry-after"))
        value = json.loads(said)
        assert isinstance(value, dict)
        return value

    def _send(self, verb: str, path: str, content: bytes | None, form: str) -> tuple[http.client.HTTPResponse, bytes]:
        try:
            self._link.request(verb, path, content, {"Content-Type": form, "Accept": "application/json"})
            answer = self._link.getresponse()
            return answer, answer.read()
        except BaseException:
            self._link.close()  # http.client connects anew
            raise

    def text(self, path: str) -> str:
        """What is no object."""
        _, said = self._send("GET", path, None, "")
        return said.decode()

    def get(self, kind: Kind, namespace: str, name: str) -> JsonObject:
        return self.ask("GET", path_of(kind, namespace, name))

    def list(self, kind: Kind, namespace: str | None = None) -> list[JsonObject]:
        found = self.ask("GET", path_of(kind, namespace))["items"]
        assert isinstance(found, list)
        return [one for one in found if isinstance(one, dict)]

    def create(self, kind: Kind, value: Mapping[str, object]) -> JsonObject:
        return self.ask("POST", path_of(kind, _namespace(value)), value)

    def apply(self, kind: Kind, value: Mapping[str, object]) -> JsonObject:
        """Server-side apply, with strict validation."""
        metadata = value["metadata"]
        assert isinstance(metadata, dict)
        path = path_of(kind, _namespace(value), str(metadata["name"]))
        query = "?fieldManager=admin&force=true&fieldValidation=Strict"
        return self.ask("PATCH", path + query, value, "application/apply-patch+yaml")

    def merge(self, kind: Kind, namespace: str, name: str, value: Mapping[str, object]) -> JsonObject:
        return self.ask("PATCH", path_of(kind, namespace, name), value, "application/merge-patch+json")

    def delete(self, kind: Kind, namespace: str, name: str) -> None:
        self.ask("DELETE", path_of(kind, namespace, name))

    def versions(self, kind: Kind) -> dict[str, str]:
        """The resourceVersion of each object of a kind, by namespace and name."""
        found = {}
        for value in self.list(kind):
            metadata = value["metadata"]
            assert isinstance(metadata, dict)
            found[f"{metadata.get('namespace', '')}/{metadata['name']}"] = str(metadata["resourceVersion"])
        return found

    @contextlib.contextmanager
    def watching(self, kind: Kind) -> Iterator["Watch"]:
        """A watch from now on, on a connection of its own."""
        listed = self.ask("GET", path_of(kind) + "?limit=1")
        metadata = listed["metadata"]
        assert isinstance(metadata, dict)
        link = self._connect()
        with contextlib.closing(link):
            link.request("GET", f"{path_of(kind)}?watch=1&resourceVersion={metadata['resourceVersion']}")
            sock = link.sock
            assert sock is not None
            yield Watch(link.getresponse(), sock)


@attrs.frozen
class Watch:
    """An open watch."""

    lines: http.client.HTTPResponse
    _sock: socket.socket

    def end(self) -> None:
        """Whoever reads its lines comes to their end."""
        self._sock.shutdown(socket.SHUT_RDWR)


def _namespace(value: Mapping[str, object]) -> str | None:
    metadata = value["metadata"]
    assert isinstance(metadata, dict)
    namespace = metadata.get("namespace")
    return None if namespace is None else str(namespace)
