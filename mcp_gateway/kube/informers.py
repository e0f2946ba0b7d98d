"""The cluster as the controller knows it: every watched kind, and the Secrets that somebody names.

Owns the reflectors of the controller and how what they hear gets into the store and the
log of reports. Deliberately decides nothing: whoever wants to know is told what each event
changed. Invariants: Secrets of users are listed only in namespaces where one is named, by
label; what can no longer be read stays known.
"""

import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final, TypeAlias

import attrs
import trio

from mcp_gateway.kube import schema
from mcp_gateway.kube.api import Api, Selection
from mcp_gateway.kube.errors import ApiForbidden, ApiMissing, KubeError
from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.reconcile.reports import ReportLog
from mcp_gateway.kube.reflector import Feed, Jitter, Reflector
from mcp_gateway.kube.schema import Kind
from mcp_gateway.kube.store import Access, Change, Store
from mcp_gateway.values import JsonObject

logger = logging.getLogger(__name__)

Told: TypeAlias = Callable[[Change, Kind, Key | None], None]
"""What an event changed, and of which object; None: of many."""

LABELS: Final = (schema.LABEL_CREDENTIAL, schema.LABEL_CREDENTIAL_ALIAS)
VISIT_S: Final = 10.0
"""Between two looks at the labels of namespaces that cannot be watched."""
OWN_SECRETS: Final = (schema.CONFIG_SECRET, schema.SIGNING_KEY_SECRET)


def key_of(value: JsonObject) -> Key:
    """Where an object is; empty parts where it does not say."""
    metadata = value.get("metadata")
    found = metadata if isinstance(metadata, dict) else {}
    return Key(str(found.get("namespace") or ""), str(found.get("name") or ""))


@attrs.define(eq=False, kw_only=True)
class KindFeed:
    """One kind, in one of its scopes, into the store (a ``reflector.Feed``)."""

    kind: Kind
    store: Store
    told: Told
    scope: str | None = None
    """A namespace; None: all of them."""

    def listed(self, items: Iterable[JsonObject]) -> None:
        """See ``Feed``."""
        self.told(self.store.replace(self.kind, items, self.scope), self.kind, None)

    def changed(self, value: JsonObject) -> None:
        """See ``Feed``."""
        self.told(self.store.put(self.kind, value), self.kind, key_of(value))

    def deleted(self, value: JsonObject) -> None:
        """See ``Feed``."""
        self.told(self.store.drop(self.kind, key_of(value)), self.kind, key_of(value))

    def failed(self, error: KubeError) -> None:
        """See ``Feed``."""
        if (self.kind, self.scope) not in self.store.failures:
            logger.warning("a kind cannot be read", extra={**self._what, "why": str(error)})
        self.store.fail(self.kind, str(error), self.scope)

    def heard(self) -> None:
        """See ``Feed``."""
        if self.store.failures.pop((self.kind, self.scope), None) is not None:
            logger.info("a kind can be read again", extra=self._what)

    @property
    def _what(self) -> dict[str, str | None]:
        return {"kind": self.kind.resource, "namespace": self.scope}


@attrs.define(eq=False, kw_only=True)
class OwnSecretFeed:
    """One Secret of our own, by name."""

    key: Key
    store: Store
    told: Told
    values: dict[Key, JsonObject]
    """Of all that are there."""
    listed_once: bool = False

    def listed(self, items: Iterable[JsonObject]) -> None:
        """See ``Feed``."""
        self.listed_once = True
        found = next(iter(items), None)
        if found is None:
            self.deleted({})
        else:
            self.changed(found)

    def changed(self, value: JsonObject) -> None:
        """See ``Feed``."""
        self.values[self.key] = value
        self.told(self.store.put(schema.SECRET, value), schema.SECRET, self.key)

    def deleted(self, value: JsonObject) -> None:
        """See ``Feed``."""
        self.values.pop(self.key, None)
        # Told even if nothing was known of it: that there is none is what the controller waits for.
        self.store.drop(schema.SECRET, self.key)
        self.told(Change.SUBSTANCE, schema.SECRET, self.key)

    def failed(self, error: KubeError) -> None:
        """See ``Feed``."""
        logger.warning("a Secret of our own cannot be read", extra={"secret": str(self.key), "why": str(error)})

    def heard(self) -> None:
        """See ``Feed``."""


@attrs.define(eq=False, kw_only=True)
class SecretsFeed:
    """The labelled Secrets of one namespace, as far as one of our two labels finds them."""

    namespace: str
    label: str
    store: Store
    told: Told
    found: dict[str, dict[Key, JsonObject]]
    """What each label has found in this namespace; one that has not listed yet is not in it."""
    besides: dict[Key, JsonObject]
    """Our own, if they are in this namespace."""

    def listed(self, items: Iterable[JsonObject]) -> None:
        """See ``Feed``."""
        self.found[self.label] = {key_of(item): item for item in items}
        if len(self.found) == len(LABELS):
            whole = {key: item for found in (self.besides, *self.found.values()) for key, item in found.items()}
            self.told(self.store.replace(schema.SECRET, whole.values(), self.namespace), schema.SECRET, None)

    def changed(self, value: JsonObject) -> None:
        """See ``Feed``."""
        self.found[self.label][key_of(value)] = value
        self.told(self.store.put(schema.SECRET, value), schema.SECRET, key_of(value))

    def deleted(self, value: JsonObject) -> None:
        """See ``Feed``."""
        key = key_of(value)
        self.found[self.label].pop(key, None)
        if not any(key in found for found in (self.besides, *self.found.values())):
            self.told(self.store.drop(schema.SECRET, key), schema.SECRET, key)

    def failed(self, error: KubeError) -> None:
        """See ``Feed``."""
        access = Access.FORBIDDEN if isinstance(error, ApiForbidden) else Access.FAILED
        if access is Access.FAILED and self.store.access(self.namespace) is not Access.UNKNOWN:
            return  # what was known stands; the API server is away for the moment
        change = self.store.set_access(self.namespace, access)
        if change is Change.SUBSTANCE:
            logger.warning("Secrets cannot be read", extra={"namespace": self.namespace, "why": str(error)})
        self.told(change, schema.SECRET, None)

    def heard(self) -> None:
        """See ``Feed``."""
        if len(self.found) == len(LABELS):
            self.told(self.store.set_access(self.namespace, Access.LISTED), schema.SECRET, None)


@attrs.define(eq=False, kw_only=True)
class ReportFeed(KindFeed):
    """The reports of the data plane, which count from when they were last seen to change."""

    reports: ReportLog

    def listed(self, items: Iterable[JsonObject]) -> None:
        """See ``Feed``."""
        before = {report.meta.key for report in self.store.reports()}
        super().listed(items)
        for report in self.store.reports():
            self.reports.observe(report, trio.current_time())
            before.discard(report.meta.key)
        for key in before:
            self.reports.forget(key, trio.current_time())

    def changed(self, value: JsonObject) -> None:
        """See ``Feed``."""
        super().changed(value)
        report = next((one for one in self.store.reports() if one.meta.key == key_of(value)), None)
        if report is not None:
            self.reports.observe(report, trio.current_time())

    def deleted(self, value: JsonObject) -> None:
        """See ``Feed``."""
        super().deleted(value)
        self.reports.forget(key_of(value), trio.current_time())


@attrs.define(eq=False, kw_only=True)
class Informers:
    """Everything that the controller watches."""

    api: Api
    store: Store
    reports: ReportLog
    jitter: Jitter
    told: Told
    _named: trio.Event = attrs.field(init=False, factory=trio.Event)
    """The namespaces with a named Secret may be others now."""
    _secrets: dict[str, trio.CancelScope] = attrs.field(init=False, factory=dict)
    _own: dict[Key, JsonObject] = attrs.field(init=False, factory=dict)
    _own_feeds: tuple[OwnSecretFeed, ...] = attrs.field(init=False, default=())

    def __attrs_post_init__(self) -> None:
        self._own_feeds = tuple(
            OwnSecretFeed(
                key=Key(self.store.settings.namespace, name), store=self.store, told=self.told, values=self._own
            )
            for name in OWN_SECRETS
        )

    @property
    def synced(self) -> bool:
        """Whether every kind, and every Secret that matters, has been listed once."""
        return not self.missing

    @property
    def missing(self) -> tuple[str, ...]:
        """What has not been listed yet."""
        own = tuple(f"{schema.SECRET.plural} {feed.key}" for feed in self._own_feeds if not feed.listed_once)
        return (*self.store.unlisted, *own)

    async def run(self) -> None:
        """Reflect until cancelled."""
        namespace = self.store.settings.namespace
        async with trio.open_nursery() as nursery:
            for kind in schema.WATCHED:
                for scope in self.store.scopes(kind):
                    feed = self._feed(kind, scope)
                    if kind == schema.NAMESPACE and self.store.settings.watch_namespaces:
                        nursery.start_soon(self._visit_namespaces, feed, name="kind:namespaces")
                    else:
                        selection = Selection(kind=kind, namespace=scope)
                        nursery.start_soon(self._reflect, feed, selection, name=f"kind:{kind.plural}:{scope or '*'}")
            for own in self._own_feeds:
                named = Selection(kind=schema.SECRET, namespace=namespace, fields=f"metadata.name={own.key.name}")
                nursery.start_soon(self._reflect, own, named, name=f"secret:{own.key.name}")
            while True:
                self._named = trio.Event()
                self._match(nursery)
                await self._named.wait()

    def _feed(self, kind: Kind, scope: str | None) -> KindFeed:
        if kind == schema.REPORT:
            return ReportFeed(kind=kind, store=self.store, told=self._heard, scope=scope, reports=self.reports)
        return KindFeed(kind=kind, store=self.store, told=self._heard, scope=scope)

    async def _visit_namespaces(self, feed: KindFeed) -> None:
        """Look at the few namespaces that are watched, one by one: a Role allows that, and no list or watch of them."""
        while True:
            found: list[JsonObject] = []
            try:
                for name in self.store.settings.watch_namespaces:
                    with suppress(ApiMissing):
                        found.append(await self.api.get(schema.NAMESPACE, None, name))
            except KubeError as error:
                feed.failed(error)
            else:
                feed.listed(found)
                feed.heard()
            await trio.sleep(self.jitter(VISIT_S / 2) + VISIT_S / 2)

    def _heard(self, change: Change, kind: Kind, key: Key | None) -> None:
        if change is Change.SUBSTANCE and kind in (schema.REGISTRATION, schema.EXTENSION):
            self._named.set()
        self.told(change, kind, key)

    def _match(self, nursery: trio.Nursery) -> None:
        """Watch the Secrets of exactly those namespaces where one is named."""
        wanted = set(self.store.secret_namespaces)
        for namespace in wanted - set(self._secrets):
            scope = self._secrets[namespace] = trio.CancelScope()
            nursery.start_soon(self._reflect_secrets, namespace, scope, name=f"secrets:{namespace}")
        for namespace in set(self._secrets) - wanted:
            self._secrets.pop(namespace).cancel("no Secret is named there any more")
            self.store.replace(schema.SECRET, self._besides(namespace).values(), namespace)
            self.store.set_access(namespace, Access.UNKNOWN)

    def _besides(self, namespace: str) -> dict[Key, JsonObject]:
        return self._own if namespace == self.store.settings.namespace else {}

    async def _reflect_secrets(self, namespace: str, scope: trio.CancelScope) -> None:
        found: dict[str, dict[Key, JsonObject]] = {}
        with scope:
            async with trio.open_nursery() as nursery:
                for label in LABELS:
                    feed = SecretsFeed(
                        namespace=namespace,
                        label=label,
                        store=self.store,
                        told=self.told,
                        found=found,
                        besides=self._besides(namespace),
                    )
                    selector = f"{label}={schema.LABEL_TRUE}"
                    labelled = Selection(kind=schema.SECRET, namespace=namespace, labels=selector)
                    nursery.start_soon(self._reflect, feed, labelled)

    async def _reflect(self, feed: Feed, selection: Selection) -> None:
        optional = selection.kind in schema.OPTIONAL
        await Reflector(api=self.api, selection=selection, feed=feed, jitter=self.jitter, optional=optional).run()
