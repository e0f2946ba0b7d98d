"""What the gateway counts.

Owns every metric by name, and the bound on its labels: methods are a fixed set,
servers the configured ones, the rest at most ``WORDS`` values; anything else is
``other``. Deliberately no HTTP. Invariant: no text of a client becomes a label.
``docs/metrics.md`` explains each metric; a test compares the two.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final

import attrs
from prometheus_client import GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from mcp_gateway import __version__
from mcp_gateway.telemetry.series import OTHER, Family, Histogram, Histograms, Numbers, Words

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
METHODS: Final = frozenset(
    (
        *("initialize", "ping", "server/discover", "subscriptions/listen"),
        *("tools/list", "tools/call", "prompts/list", "prompts/get", "completion/complete", "logging/setLevel"),
        *("resources/list", "resources/templates/list", "resources/read"),
        *("resources/subscribe", "resources/unsubscribe"),
        *("tasks/get", "tasks/result", "tasks/list", "tasks/update", "tasks/cancel"),
        *("notifications/initialized", "notifications/cancelled", "notifications/progress"),
        "notifications/roots/list_changed",
    )
)
STATES: Final = ("connecting", "ready", "degraded", "down", "disabled")
WORDS: Final = 32


@attrs.define(eq=False)
class _Calls:
    """What one finished request changes; found by one look-up."""

    duration: Histogram
    count: int = 0


@attrs.define(eq=False)
class Readings:
    """Numbers that their owners know anyway; read at a scrape only."""

    connections: Callable[[], int] = lambda: 0
    connections_refused: Callable[[], int] = lambda: 0
    sessions: Callable[[], int] = lambda: 0
    streams: Callable[[], int] = lambda: 0
    in_flight: Callable[[], Mapping[str, int]] = dict
    """By server; who is not in it has none."""
    log_lines_dropped: Callable[[], int] = lambda: 0


def _counter(name: str, text: str, *labels: str) -> Numbers:
    return Numbers("counter", f"mcp_gateway_{name}", text, labels)


def _gauge(name: str, text: str, *labels: str) -> Numbers:
    return Numbers("gauge", f"mcp_gateway_{name}", text, labels)


def _seconds(name: str, text: str, *labels: str) -> Histograms:
    return Histograms(f"mcp_gateway_{name}_seconds", text, labels)


class Metrics(Collector):
    """All metrics of one process. Methods are cheap and plain; ``render`` is for the admin listener."""

    def __init__(self) -> None:
        self.readings = Readings()
        self._servers: frozenset[str] = frozenset()
        self._words = {name: Words(WORDS) for name in ("outcome", "source", "delivery", "limit")}
        self._calls: dict[tuple[str, str, str], _Calls] = {}
        self._bytes_in = self._bytes_out = 0
        self._durations = _seconds("request_duration", "From a request to its answer.", "method", "server")
        self._queue = _seconds("queue", "Waiting for a place at a server.", "server")
        self._cancelled = _counter("cancellations", "Cancelled calls.", "source", "delivery")
        self._limits = _counter("deadlines", "Calls that a limit ended.", "limit", "server")
        self._state = _gauge("server_state", "1 for the state that the server is in.", "server", "state")
        self._discovered = _counter("discoveries", "Attempts to list what a server has.", "server", "result")
        self._discovery = _seconds("discovery_duration", "Successful discoveries.", "server")
        self._items = _gauge("server_items", "What a server has listed.", "server", "kind")
        self._reconnects = _counter("reconnects", "Connections made anew after a loss.", "server")
        self._late = _counter("late_answers", "Answers to calls that had already ended.", "server")
        self._skipped = _counter("messages_skipped", "What servers sent as a message and was none.", "server")
        self._kept_lost = _counter("kept_connections_lost", "Connections closed under a request.", "server")
        self._generation = _gauge("configuration_generation", "Counts the configurations that were applied.")
        self._reload_ok = _gauge("configuration_last_reload_successful", "1 if the last reload was applied.")
        self._reload_at = _gauge("configuration_last_reload_success_timestamp_seconds", "When it was applied.")
        self._lag = _seconds("loop_lag", "How late the event loop woke a task that slept.")
        self._tasks = _gauge("tasks", "Tasks of the event loop.")
        self._families: tuple[Numbers | Histograms, ...] = (
            self._durations, self._queue, self._cancelled, self._limits, self._state,
            self._discovered, self._discovery, self._items, self._reconnects, self._late,
            self._skipped, self._kept_lost, self._generation, self._reload_ok, self._reload_at, self._lag, self._tasks,
        )  # fmt: skip
        self._lag_here = self._lag.at()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def configure(self, servers: Collection[str]) -> None:
        """The configured servers: the only names that become labels. Series of the others are forgotten."""
        self._servers = frozenset(servers)
        keep = self._servers | {OTHER, ""}
        self._calls = {key: calls for key, calls in self._calls.items() if key[1] in keep}
        for family in self._families:
            if "server" in family.labels:
                place = family.labels.index("server")
                for labels in [each for each in family.values if each[place] not in keep]:
                    del family.values[labels]

    def request(self, method: str, server: str, outcome: str, duration_s: float) -> None:
        """A request was answered. ``server`` is empty when the gateway answered itself."""
        calls = self._calls.get((method, server, outcome))
        if calls is None:
            calls = self._new_calls(method, server, outcome)
        calls.count += 1
        calls.duration.observe(duration_s)

    def queued(self, server: str, wait_s: float) -> None:
        """A call got its place at a server after ``wait_s``."""
        self._queue.at(self._server(server)).observe(wait_s)

    def cancelled(self, source: str, delivery: str) -> None:
        """A call was cancelled: by whom, and how the server was told (``queued``: it never saw the call)."""
        self._cancelled.add(self._word("source", source), self._word("delivery", delivery))

    def deadline(self, limit: str, server: str = "") -> None:
        """A limit (``connect queue call input max``) ended a call."""
        self._limits.add(self._word("limit", limit), self._server(server))

    def server_state(self, server: str, state: str) -> None:
        """A server is now in ``state`` (one of ``STATES``) and no other."""
        name = self._server(server)
        for each in STATES:
            self._state.set(name, each, to=1 if each == state else 0)

    def discovery(self, server: str, duration_s: float, *, ok: bool) -> None:
        """An attempt to list what a server has ended."""
        name = self._server(server)
        self._discovered.add(name, "ok" if ok else "failed")
        if ok:
            self._discovery.at(name).observe(duration_s)

    def items(self, server: str, *, tools: int, prompts: int, resources: int) -> None:
        """What a server's last discovery listed."""
        name = self._server(server)
        for kind, count in (("tools", tools), ("prompts", prompts), ("resources", resources)):
            self._items.set(name, kind, to=count)

    def reconnected(self, server: str) -> None:
        """A lost connection to a server was made anew."""
        self._reconnects.add(self._server(server))

    def late_answer(self, server: str) -> None:
        """An answer came for a call that had already ended."""
        self._late.add(self._server(server))

    def message_skipped(self, server: str) -> None:
        """A server sent something as a message that is none."""
        self._skipped.add(self._server(server))

    def kept_connection_lost(self, server: str) -> None:
        """A server closed a kept connection while a request was on its way."""
        self._kept_lost.add(self._server(server))

    def received(self, size: int) -> None:
        """Bytes of a request's body came in."""
        self._bytes_in += size

    def sent(self, size: int) -> None:
        """Bytes of an answer's body go out."""
        self._bytes_out += size

    def reloaded(self, generation: int, *, ok: bool, now_unix_s: float) -> None:
        """A configuration was applied (``ok``) or refused; ``generation`` is the one in force."""
        self._generation.set(to=generation)
        self._reload_ok.set(to=1 if ok else 0)
        if ok:
            self._reload_at.set(to=now_unix_s)

    def loop(self, lag_s: float, tasks: int) -> None:
        """One sample of the event loop."""
        self._lag_here.observe(lag_s)
        self._tasks.set(to=tasks)

    def render(self) -> bytes:
        """The text of one scrape, of ``CONTENT_TYPE``."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """For prometheus-client."""
        requests = _counter("requests", "Answered requests.", "method", "server", "outcome")
        requests.values = {labels: calls.count for labels, calls in self._calls.items()}
        yield requests.family()
        for family in self._families:
            yield family.family()
        read = self.readings
        for name, text, value in (
            ("connections_refused", "Connections above limits.connections.", read.connections_refused()),
            ("log_lines_dropped", "Log lines that found the queue full.", read.log_lines_dropped()),
            ("received_bytes", "Bodies of requests.", self._bytes_in),
            ("sent_bytes", "Bodies of answers.", self._bytes_out),
        ):
            yield Numbers("counter", f"mcp_gateway_{name}", text, (), {(): value}).family()
        for name, text, value in (
            ("connections", "Open client connections.", read.connections()),
            ("sessions", "Client sessions in memory.", read.sessions()),
            ("streams", "Open event streams of clients.", read.streams()),
        ):
            yield Numbers("gauge", f"mcp_gateway_{name}", text, (), {(): value}).family()
        in_flight = _gauge("in_flight", "Calls that wait for a server's answer.", "server")
        counts = read.in_flight()
        in_flight.values = {(server,): counts.get(server, 0) for server in sorted(self._servers)}
        yield in_flight.family()
        build = _gauge("build_info", "The version that runs.", "version")
        build.set(__version__, to=1)
        yield build.family()

    def _new_calls(self, method: str, server: str, outcome: str) -> _Calls:
        labels = (method if method in METHODS else OTHER, self._server(server), self._word("outcome", outcome))
        calls = self._calls.get(labels)
        if calls is None:
            calls = self._calls[labels] = _Calls(self._durations.at(*labels[:2]))
        return calls

    def _server(self, server: str) -> str:
        return server if server in self._servers or not server else OTHER

    def _word(self, label: str, word: str) -> str:
        return self._words[label].bounded(word)
