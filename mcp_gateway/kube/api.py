"""The API server of a cluster, as requests that can be cancelled.

Owns URLs, verbs, the two ways to write (replace what was read, apply what is ours) and
the lines of a watch. Deliberately keeps no object and repeats no write: what a failure
means is the caller's affair. Invariants: every request ends within ``REQUEST_S``; a watch
that says nothing for longer than it may is over; a refused credential is read again once.

Spec: Kubernetes API concepts (list chunks, efficient detection of changes, server-side apply).
"""

import logging
import random
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import Final, TypeAlias, cast
from urllib.parse import quote

import attrs
import httpx2
import orjson
import trio

from mcp_gateway.kube.cluster import Cluster
from mcp_gateway.kube.errors import (
    ApiBusy,
    ApiConflict,
    ApiExpired,
    ApiForbidden,
    ApiMissing,
    ApiRefused,
    ApiUnreachable,
)
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.undeclared import without
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

Params: TypeAlias = Mapping[str, str]

REQUEST_S: Final = 15.0
CONNECT_S: Final = 5.0
PAGE: Final = 500
"""Objects of one part of a list, as kubectl and client-go."""
WATCH_S: Final = 60
"""The shortest time that a watch is asked to last; up to half as much again, so that not all end at once."""
SILENCE_S: Final = 15.0
"""How much longer than that it may be silent: then the server hangs, or nobody is there any more."""
REQUESTS: Final = 16
"""Connections for what is no watch."""

_JSON: Final = "application/json"
_APPLY: Final = "application/apply-patch+yaml"  # JSON is YAML
_MERGE: Final = "application/merge-patch+json"
_KEEP_ALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)
_KINDS: Final[Mapping[int, type[ApiRefused]]] = {
    401: ApiForbidden,
    403: ApiForbidden,
    404: ApiMissing,
    409: ApiConflict,
    410: ApiExpired,
    429: ApiBusy,
}


@attrs.frozen(kw_only=True)
class Selection:
    """Which objects of a kind: of one namespace or of all, by label and by field."""

    kind: Kind
    namespace: str | None = None
    labels: str = ""
    fields: str = ""

    @property
    def params(self) -> dict[str, str]:
        """As a query."""
        named = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {name: value for name, value in named.items() if value}


@attrs.frozen(kw_only=True)
class Listed:
    """A whole list and the version that it is of."""

    items: tuple[JsonObject, ...]
    version: str


@attrs.frozen(kw_only=True)
class WatchEvent:
    """One line of a watch."""

    type: str
    """``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``."""
    object: JsonObject

    @property
    def version(self) -> str:
        """The resourceVersion to go on from."""
        metadata = self.object.get("metadata")
        return str(metadata.get("resourceVersion") or "") if isinstance(metadata, dict) else ""


def path_of(kind: Kind, namespace: str | None = None, name: str = "", sub: str = "") -> str:
    """The path of a collection or of one object."""
    parts = ["apis", kind.group, kind.version] if kind.group else ["api", kind.version]
    if namespace:
        parts += ["namespaces", namespace]
    parts += [part for part in (kind.plural, name, sub) if part]
    return "/" + "/".join(quote(part, safe="") for part in parts)


@attrs.define(eq=False, kw_only=True)
class Api:
    """One API server; made by ``open_api``."""

    cluster: Cluster
    manager: str
    """The field manager of what we write."""
    _requests: httpx2.AsyncClient = attrs.field(alias="requests", repr=False)
    _watches: httpx2.AsyncClient = attrs.field(alias="watches", repr=False)

    # --- reading ---

    async def get(self, kind: Kind, namespace: str | None, name: str) -> JsonObject:
        """One object.

        Raises:
            ApiMissing, and what all methods raise: KubeError.
        """
        return await self._send("GET", path_of(kind, namespace, name))

    async def list(self, selection: Selection) -> Listed:
        """Every object of a selection, as of one moment.

        Raises:
            ApiExpired: it changed too much while it was read.
        """
        path = path_of(selection.kind, selection.namespace)
        params = {**selection.params, "limit": str(PAGE)}
        items: list[JsonObject] = []
        while True:
            page = await self._send("GET", path, params)
            found = page.get("items")
            items += [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
            metadata = page.get("metadata")
            about = metadata if isinstance(metadata, dict) else {}
            following = about.get("continue")
            if not isinstance(following, str) or not following:
                return Listed(items=tuple(items), version=str(about.get("resourceVersion") or ""))
            params["continue"] = following

    @asynccontextmanager
    async def watch(self, selection: Selection, version: str) -> AsyncIterator[AsyncIterator[WatchEvent]]:
        """What happens to a selection after ``version``; the iterator ends when the server ends it.

        Raises (on entering, and while it is read):
            ApiExpired: ``version`` is too old. ApiUnreachable: silence, or a broken connection.
        """
        path = path_of(selection.kind, selection.namespace)
        lasts_s = WATCH_S + random.randrange(WATCH_S // 2)  # to spread load, not to keep a secret
        params = {
            **selection.params,
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(lasts_s),
        }
        where = f"WATCH {path}"
        with _faults(where):
            async with self._watching(where, path, params, lasts_s + SILENCE_S) as response:
                async with aclosing(cast(AsyncGenerator[str, None], response.aiter_lines())) as lines:
                    yield _Events(where, lines)

    # --- writing ---

    async def create(self, kind: Kind, namespace: str | None, value: JsonObject) -> JsonObject:
        """A new object. ApiConflict: there is one of this name."""
        return await self._send("POST", path_of(kind, namespace), self._managed, value, _JSON)

    async def replace(
        self, kind: Kind, namespace: str | None, name: str, value: JsonObject, sub: str = ""
    ) -> JsonObject:
        """Write what was read and changed; its ``metadata.resourceVersion`` says what was read.

        Raises:
            ApiConflict: somebody else has written since.
        """
        return await self._send("PUT", path_of(kind, namespace, name, sub), self._managed, value, _JSON)

    async def apply(self, kind: Kind, namespace: str | None, name: str, value: JsonObject, sub: str = "") -> JsonObject:
        """Server-side apply, with force: only for fields that are ours alone.

        A ``metadata.resourceVersion`` in ``value`` makes it fail with ApiConflict if somebody has written since. Fields
        that the kind does not declare, because it is of an earlier release, are left out.
        """
        path, params = path_of(kind, namespace, name, sub), {**self._managed, "force": "true"}
        while True:
            try:
                return await self._send("PATCH", path, params, value, _APPLY)
            except ApiRefused as error:
                smaller = without(value, error.message)
                if smaller == value:
                    raise
                logger.debug("the cluster has an earlier release of a kind", extra={"why": str(error)})
                value = smaller

    async def merge(self, kind: Kind, namespace: str | None, name: str, value: JsonObject, sub: str = "") -> JsonObject:
        """JSON merge patch (RFC 7396)."""
        return await self._send("PATCH", path_of(kind, namespace, name, sub), self._managed, value, _MERGE)

    async def delete(self, kind: Kind, namespace: str | None, name: str, *, uid: str = "", version: str = "") -> None:
        """Delete an object, if it is still the one that was read; ApiMissing: it is gone."""
        named = {"uid": uid, "resourceVersion": version}
        conditions: JsonObject = {key: value for key, value in named.items() if value}
        body: JsonObject = {"preconditions": conditions} if conditions else {}
        await self._send("DELETE", path_of(kind, namespace, name), {}, body, _JSON)

    @property
    def _managed(self) -> dict[str, str]:
        return {"fieldManager": self.manager}

    # --- how ---

    async def _send(
        self, verb: str, path: str, params: Params | None = None, value: JsonObject | None = None, form: str = ""
    ) -> JsonObject:
        where = f"{verb} {path}"
        with trio.move_on_after(REQUEST_S), _faults(where):
            response = await self._ask(verb, path, params, value, form, anew=False)
            if response.status_code == 401:
                response = await self._ask(verb, path, params, value, form, anew=True)
            if response.status_code >= 400:
                raise refused(where, response.status_code, response.content, response.headers.get("retry-after"))
            return _object(where, response.content)
        raise ApiUnreachable(where=where, why=f"no answer within {REQUEST_S:g} s")

    async def _ask(
        self, verb: str, path: str, params: Params | None, value: JsonObject | None, form: str, *, anew: bool
    ) -> httpx2.Response:
        return await self._requests.request(
            verb,
            path,
            params=dict(params or {}),
            content=None if value is None else orjson.dumps(value),
            headers=await self._headers(form, anew=anew),
            extensions=self._extensions,
        )

    @asynccontextmanager
    async def _watching(
        self, where: str, path: str, params: Params, silence_s: float
    ) -> AsyncIterator[httpx2.Response]:
        for anew in (False, True):
            headers = await self._headers("", anew=anew)
            timeout = httpx2.Timeout(CONNECT_S, read=silence_s)
            async with self._watches.stream(
                "GET", path, params=dict(params), headers=headers, timeout=timeout, extensions=self._extensions
            ) as response:
                if response.status_code == 401 and not anew:
                    continue
                if response.status_code >= 400:
                    body = await response.aread()
                    raise refused(where, response.status_code, body, response.headers.get("retry-after"))
                yield response
                return

    async def _headers(self, form: str, *, anew: bool) -> dict[str, str]:
        headers = {"accept": _JSON, "user-agent": self.manager}
        if form:
            headers["content-type"] = form
        authorization = await self.cluster.authorization(anew=anew)
        if authorization is not None:
            headers["authorization"] = authorization
        return headers

    @property
    def _extensions(self) -> dict[str, str]:
        name = self.cluster.server_name
        return {} if name is None else {"sni_hostname": name}


@asynccontextmanager
async def open_api(cluster: Cluster, manager: str) -> AsyncIterator[Api]:
    """The cluster's API server, for as long as the block lives.

    Raises:
        NoCluster: its certificates cannot be used.
    """
    trust = await trio.to_thread.run_sync(cluster.trust, abandon_on_cancel=True)

    def client(limits: httpx2.Limits) -> httpx2.AsyncClient:
        transport = httpx2.AsyncHTTPTransport(
            verify=trust, trust_env=False, limits=limits, socket_options=list(_KEEP_ALIVE)
        )
        return httpx2.AsyncClient(
            base_url=cluster.url,
            transport=transport,
            trust_env=False,
            timeout=httpx2.Timeout(REQUEST_S, connect=CONNECT_S),
        )

    bounded = httpx2.Limits(max_connections=REQUESTS, max_keepalive_connections=REQUESTS, keepalive_expiry=30.0)
    # As many watches as kinds, and one for each namespace with a credential: bounded by what is configured.
    unbounded = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    async with client(bounded) as requests, client(unbounded) as watches:
        yield Api(cluster=cluster, manager=manager, requests=requests, watches=watches)


def refused(where: str, status: int, body: bytes, retry_after: str | None = None) -> ApiRefused:
    """The error for an answer that is none."""
    try:
        told = orjson.loads(body)
    except orjson.JSONDecodeError:
        told = None
    said = told if isinstance(told, dict) else {}
    details = said.get("details")
    seconds = details.get("retryAfterSeconds") if isinstance(details, dict) else None
    if not isinstance(seconds, int) and retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        seconds = int(retry_after[:6])
    kind = _KINDS.get(status, ApiBusy if status >= 500 else ApiRefused)
    return kind(
        where=where,
        status=status,
        cause=str(said.get("reason") or ""),
        message=str(said.get("message") or f"HTTP {status}")[:1024],
        retry_after_s=float(seconds) if isinstance(seconds, int) and seconds > 0 else None,
    )


@attrs.define(eq=False)
class _Events:
    """The lines of a watch as events; no generator, so that nothing is left behind when its reader stops early."""

    _where: str
    _lines: AsyncIterator[str]

    def __aiter__(self) -> AsyncIterator[WatchEvent]:
        return self

    async def __anext__(self) -> WatchEvent:
        while not (line := await anext(self._lines)):
            pass
        told = _object(self._where, line.encode())
        value = told.get("object")
        found = value if isinstance(value, dict) else {}
        if told.get("type") == "ERROR":
            code = found.get("code")
            raise refused(self._where, code if isinstance(code, int) else 500, orjson.dumps(found))
        return WatchEvent(type=str(told.get("type")), object=found)


def _object(where: str, body: bytes) -> JsonObject:
    try:
        value = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise ApiUnreachable(where=where, why="its answer is not JSON") from error
    return value if isinstance(value, dict) else {}


@contextmanager
def _faults(where: str) -> Iterator[None]:
    """Give every way to get no answer its one type."""
    try:
        yield
    except httpx2.TimeoutException as error:
        raise ApiUnreachable(where=where, why="it is silent") from error
    except httpx2.HTTPError as error:
        raise ApiUnreachable(where=where, why=str(error) or type(error).__name__) from error
