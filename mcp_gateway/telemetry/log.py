"""Logging that never blocks the event loop.

Owns the one queue, the one thread that writes, and the two forms of a line.
Deliberately no log files and no levels per module; a gateway may have its own. Invariant: ``emit`` puts a
record into a bounded queue or counts it as dropped; nothing else happens on the
loop. Secrets are not logged in the first place; hiding them here is the last
line of defence.
"""

import logging
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Final, Literal, TextIO, TypeAlias

import attrs
import orjson

from mcp_gateway.telemetry.trace import gateway, request_id, trace_id
from mcp_gateway.values import JsonObject, JsonValue

Form: TypeAlias = Literal["text", "json"]

QUEUE_LINES: Final = 10_000
VALUE_CHARS: Final = 2_000
"""Longer values are cut, and say by how much."""
TRACEBACK_CHARS: Final = 16_000
FLUSH_S: Final = 5.0
"""The longest that leaving ``setup`` waits for a reader of the log that does not read."""

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_OWN: Final = frozenset({"time", "level", "logger", "message", "request_id", "trace_id", "gateway", "traceback"})
_SECRET: Final = frozenset(
    (
        *("authorization", "proxyauthorization", "cookie", "setcookie", "mcpsessionid", "xapikey", "apikey"),
        *("token", "accesstoken", "refreshtoken", "password", "secret", "clientsecret", "credential"),
        *("credentials", "signingkey"),
    )
)
_CREDENTIAL: Final = re.compile(r"(?i)\b(bearer|basic)[ =:]+[A-Za-z0-9._~+/-]{6,}=*")
_ASSIGNED: Final = re.compile(
    r"(?i)\b(authorization|proxy-authorization|cookie|set-cookie|mcp-session-id|x-api-key)\b(['\"]?\s*[:=,]\s*b?)[^\r\n]+"
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_BARE: Final = re.compile(r"[^\s\"=]+")
_HIDDEN: Final = "[hidden]"
_DEPTH: Final = 4
_ITEMS: Final = 50


OURS: Final = "mcp_gateway"
"""The logger above all of ours."""


@attrs.frozen(kw_only=True)
class Levels:
    """The lowest level that is written of our own lines, by what they are about."""

    process: int
    gateways: Mapping[str, int] = attrs.field(factory=dict)
    backends: Mapping[str, int] = attrs.field(factory=dict)
    """For lines that belong to no request."""

    @property
    def lowest(self) -> int:
        """Of all."""
        return min((self.process, *self.gateways.values(), *self.backends.values()))

    def want(self, record: logging.LogRecord) -> bool:
        """Whether a line of ours is to be written, as seen from the task that it comes from."""
        place, backend = gateway.get(), record.__dict__.get("backend")
        if place is not None:
            return record.levelno >= self.gateways.get(place, self.process)
        return record.levelno >= self.backends.get(str(backend), self.process)


@attrs.define(eq=False)
class Drain:
    """What the handler and the thread share: the queue and how many lines it had no room for."""

    lines: "queue.Queue[logging.LogRecord | None]" = attrs.field(factory=lambda: queue.Queue(QUEUE_LINES))
    dropped: int = 0
    levels: Levels = attrs.field(factory=lambda: Levels(process=logging.NOTSET))

    def distinguish(self, gateways: Mapping[str, str], backends: Mapping[str, str]) -> None:
        """Give gateways and backends levels of their own, by name; all others have that of the process."""
        known = logging.getLevelNamesMapping()
        self.levels = Levels(
            process=self.levels.process,
            gateways={name: known[level.upper()] for name, level in gateways.items()},
            backends={name: known[level.upper()] for name, level in backends.items()},
        )
        logging.getLogger(OURS).setLevel(self.levels.lowest)


class QueueHandler(logging.Handler):
    """Hands records to the thread; drops and counts them when it is too far behind."""

    def __init__(self, drain: Drain) -> None:
        super().__init__()
        self._drain = drain

    def emit(self, record: logging.LogRecord) -> None:
        """Take what only this thread knows (arguments, context), then put without waiting."""
        if record.name.partition(".")[0] == OURS and not self._drain.levels.want(record):
            return
        if record.args:
            try:
                record.msg = record.getMessage()
            except Exception:  # noqa: BLE001  # a library's bad format must not fail the request that logs it
                record.msg = f"{record.msg} (its arguments do not fit)"
            record.args = None
        record.__dict__["context"] = (request_id.get(), trace_id.get(), gateway.get() or "")
        try:
            self._drain.lines.put_nowait(record)
        except queue.Full:
            self._drain.dropped += 1


@contextmanager
def setup(form: Form = "text", level: str = "INFO", stream: TextIO | None = None) -> Iterator[Drain]:
    """Send all logging of the process through one queue and one thread, for the length of the block.

    Leaving the block writes what is queued (at most ``FLUSH_S``) and puts the old handlers back.

    Args:
        form: ``text`` for people, ``json`` (one object per line) for machines.
        level: the lowest that is written of our own, where a gateway has none; of libraries, warnings and worse.
        stream: where to; standard error by default.
    Yields:
        The drain, whose ``dropped`` is a metric.
    Raises:
        ValueError: an unknown level.
    """
    drain = Drain()
    write = _writer(stream or sys.stderr, json_line if form == "json" else text_line, drain)
    thread = threading.Thread(target=write, name="log", daemon=True)
    handler = QueueHandler(drain)
    root, ours = logging.getLogger(), logging.getLogger(OURS)
    before = (root.handlers[:], root.level, ours.level)
    ours.setLevel(level.upper())
    drain.levels = Levels(process=ours.level)
    # Libraries tell of each request at debug and info, with headers of answers among it.
    root.setLevel(max(ours.level, logging.WARNING))
    root.handlers = [handler]
    logging.captureWarnings(True)
    thread.start()
    try:
        yield drain
    finally:
        logging.captureWarnings(False)
        root.handlers = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
        _stop(drain, thread)


def _stop(drain: Drain, thread: threading.Thread) -> None:
    try:
        drain.lines.put(None, timeout=FLUSH_S)
    except queue.Full:
        return  # the reader of the log has not read for so long: its lines are lost, the exit is not
    thread.join(FLUSH_S)


def _writer(stream: TextIO, line: Callable[[logging.LogRecord], str], drain: Drain) -> Callable[[], None]:
    """Make the body of the thread: write lines until None comes, flush when there is nothing to write."""

    told = 0

    def settle() -> None:
        nonlocal told
        if drain.dropped > told:
            lost, told = drain.dropped - told, drain.dropped
            _written(stream, line, _lost(lost))
        _flush(stream)

    def write() -> None:
        while (record := drain.lines.get()) is not None:
            if not _written(stream, line, record):
                drain.dropped += 1
            if drain.lines.empty():
                settle()
        settle()

    return write


def _lost(lines: int) -> logging.LogRecord:
    return logging.makeLogRecord(
        {
            "name": __name__,
            "levelname": "WARNING",
            "msg": "log lines dropped",
            "lines": lines,
        }
    )


def _written(stream: TextIO, line: Callable[[logging.LogRecord], str], record: logging.LogRecord) -> bool:
    try:
        stream.write(line(record))
    except Exception:  # noqa: BLE001  # the supervised border of one line: a value that cannot be shown, a closed pipe
        return False
    return True


def _flush(stream: TextIO) -> None:
    with suppress(OSError, ValueError):  # the reader of the log has gone; nobody is left to tell
        stream.flush()


def json_line(record: logging.LogRecord) -> str:
    """One line for machines: an object with ``time level logger message`` and the fields."""
    line: JsonObject = {
        "time": _time(record),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _hide(record.getMessage()),
    }
    line.update((f"field_{name}" if name in _OWN else name, value) for name, value in _fields(record))
    line.update(_context(record))
    traceback = _traceback(record)
    if traceback:
        line["traceback"] = traceback
    return orjson.dumps(line).decode() + "\n"


def text_line(record: logging.LogRecord) -> str:
    """One line for people: time, level, message, fields, logger; a traceback below it."""
    fields = [*_fields(record), *_context(record).items()]
    words = "".join(f" {name}={_word(value)}" for name, value in fields)
    message = _CONTROL.sub(_escape, _hide(record.getMessage()))
    line = f"{_time(record)} {record.levelname:<7} {message}{words} ({record.name})\n"
    traceback = _traceback(record)
    return f"{line}{traceback}\n" if traceback else line


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _context(record: logging.LogRecord) -> dict[str, JsonValue]:
    values = getattr(record, "context", ("", "", ""))
    return {name: value for name, value in zip(("request_id", "trace_id", "gateway"), values, strict=True) if value}


def _fields(record: logging.LogRecord) -> list[tuple[str, JsonValue]]:
    own = ((name, value) for name, value in vars(record).items() if name not in _STANDARD and name != "context")
    return [(name, plain(value, name)) for name, value in own]


def _traceback(record: logging.LogRecord) -> str:
    if not record.exc_info:
        return ""
    text = _hide(logging.Formatter().formatException(record.exc_info))
    # The end names the error: the beginning is what can be spared.
    return text if len(text) <= TRACEBACK_CHARS else f"[{len(text) - TRACEBACK_CHARS} cut]{text[-TRACEBACK_CHARS:]}"


def plain(value: object, name: str = "", depth: int = _DEPTH) -> JsonValue:
    """A value as JSON can show it: bounded in length, breadth and depth, secrets hidden by their name."""
    if re.sub(r"[-_.]", "", name.lower()) in _SECRET:
        return _HIDDEN
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**63 else str(value)
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, Mapping) and depth:
        pairs = list(value.items())[:_ITEMS]
        return {str(key): plain(inner, str(key), depth - 1) for key, inner in pairs}
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, str) and depth:
        return [_element(inner, depth) for inner in list(value)[:_ITEMS]]
    return _cut(_hide(str(value)))


def _element(value: object, depth: int) -> JsonValue:
    """An element of a list; a pair is taken for a header, whose name may be a secret's."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str | bytes):
        name = value[0].decode(errors="replace") if isinstance(value[0], bytes) else value[0]
        return [_cut(name), plain(value[1], name, depth - 1)]
    return plain(value, "", depth - 1)


def _cut(text: str) -> str:
    text = text.encode(errors="replace").decode()
    return text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}[{len(text) - VALUE_CHARS} cut]"


def _hide(text: str) -> str:
    if not text.isascii():
        text = text.encode(errors="replace").decode()
    return _ASSIGNED.sub(rf"\1\2{_HIDDEN}", _CREDENTIAL.sub(rf"\1 {_HIDDEN}", text))


def _word(value: JsonValue) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    if _BARE.fullmatch(text) and not _CONTROL.search(text):
        return text
    return '"' + _CONTROL.sub(_escape, text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape(found: re.Match[str]) -> str:
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(found[0], f"\\u{ord(found[0]):04x}")
