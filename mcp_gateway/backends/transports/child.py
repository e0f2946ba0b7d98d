"""A child process in a process group of its own.

Owns starting it with a minimal environment, its standard error, and its end.
Deliberately knows no MCP and no frames. Invariant: when ``stop`` has returned,
within ``STOP_S`` (``FIRST_STOP_S`` for a child that never answered), the child is
reaped and nothing of its group runs any more.
"""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from typing import Final

import attrs
import trio

from mcp_gateway.backends.transports.lines import LineCutter, LongLine
from mcp_gateway.backends.transports.orphans import OWN
from mcp_gateway.config.spec import StdioTarget
from mcp_gateway.errors import BackendGone, Executed
from mcp_gateway.values import BackendKey

logger = logging.getLogger(__name__)

INHERITED: Final = frozenset(
    {
        "HOME", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "LOGNAME", "PATH", "SHELL",
        "SSL_CERT_DIR", "SSL_CERT_FILE", "TERM", "TMPDIR", "TZ", "USER",
    }
)  # fmt: skip  # a table
"""What a child gets of the gateway's environment; everything else (keys, tokens) only if ``env`` names it."""

LEAVE_S: Final = 0.5
"""For leaving by itself once its input is closed (MCP basic/transports/stdio, Shutdown)."""
TERM_S: Final = 1.0
KILL_S: Final = 0.4
"""For the kernel, which ends a killed process at once unless it hangs in a driver; for process 1 to reap orphans."""
POLL_S: Final = 0.005
STOP_S: Final = LEAVE_S + TERM_S + KILL_S
FIRST_TERM_S: Final = 10.0
"""Instead of ``TERM_S`` for a child that has not answered yet: it may be installing itself, and a package manager that
is killed while it writes leaves a broken cache to all its later starts."""
FIRST_STOP_S: Final = LEAVE_S + FIRST_TERM_S + KILL_S

STDERR_LINE_BYTES: Final = 2000
STDERR_PER_S: Final = 20.0
STDERR_BURST: Final = 200.0
CHUNK_BYTES: Final = 64 * 2**10


@attrs.define(eq=False)
class LineBudget:
    """How many lines may be logged: a burst, then so many a second; the rest is counted."""

    per_s: float = STDERR_PER_S
    burst: float = STDERR_BURST
    suppressed: int = attrs.field(default=0, init=False)
    _left: float = attrs.field(default=STDERR_BURST, init=False)
    _at: float | None = attrs.field(default=None, init=False)

    def allows(self, now: float) -> bool:
        """Whether a line that comes at ``now`` (clock seconds) may be logged."""
        if self._at is not None:
            self._left = min(self.burst, self._left + (now - self._at) * self.per_s)
        self._at = now
        if self._left < 1.0:
            self.suppressed += 1
            return False
        self._left -= 1.0
        return True


def environment(target: StdioTarget, inherited: Mapping[str, str]) -> dict[str, str]:
    """The child's whole environment: the harmless part of ours, then the configured one."""
    return {name: value for name, value in inherited.items() if name in INHERITED} | dict(target.env)


def unheard(chunk: bytes) -> None:
    """For children whose standard error interests the log alone."""


@attrs.define(eq=False)
class Child:
    """One running child; made by ``start``."""

    key: BackendKey
    process: trio.Process = attrs.field(repr=False)
    stdin: trio.abc.SendStream = attrs.field(repr=False)
    stdout: trio.abc.ReceiveStream = attrs.field(repr=False)
    stderr: trio.abc.ReceiveStream = attrs.field(repr=False)
    hurry: trio.Event
    """Set when the gateway shuts down: nobody waits for a slow end any more."""
    answered: bool = attrs.field(default=False, init=False)
    """It has come up at least once."""
    stderr_lines: LineBudget = attrs.field(factory=LineBudget, init=False)
    _group_ended: bool = attrs.field(default=False, init=False)
    _patient: bool = attrs.field(default=False, init=False)
    """It is being stopped, and what it started may go on until ``FIRST_TERM_S`` are over."""

    async def log_stderr(self, heard: Callable[[bytes], None]) -> None:
        """Log standard error line by line until it ends; it is always read, so that the child never waits for us.

        ``heard`` is told of each chunk, as it came.
        """
        lines = LineCutter(STDERR_LINE_BYTES)
        try:
            async for chunk in self.stderr:
                heard(bytes(chunk))
                self._log(lines.feed(bytes(chunk)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # closed by ``stop``
        self._log(lines.end())
        if self.stderr_lines.suppressed:
            logger.info("stderr suppressed", extra={"backend": self.key, "lines": self.stderr_lines.suppressed})

    def _log(self, lines: list[bytes | LongLine]) -> None:
        now = trio.current_time()
        for line in lines:
            if self.stderr_lines.allows(now):
                raw = line.head if isinstance(line, LongLine) else line
                text = raw.decode(errors="backslashreplace")
                printable = "".join(char if char.isprintable() else "?" for char in text)
                logger.info("stderr", extra={"backend": self.key, "text": printable})

    async def ended(self) -> str:
        """Wait for the end and say how it came. What is left of its group is killed, unless ``stop`` is patient."""
        code = await self.process.wait()
        OWN.reaped(self.process.pid)
        if not self._patient:
            self._signal_group(signal.SIGKILL)
            self._group_ended = True  # the number may soon be another's
        return _how(code)

    def kill(self) -> None:
        """Kill the whole group at once; ``ended`` then returns."""
        self._signal_group(signal.SIGKILL)

    async def stop(self) -> None:
        """Close its input, wait, TERM, wait, KILL; finishes within ``STOP_S`` even when cancelled.

        A child that never answered, and its group, get ``FIRST_TERM_S`` after the TERM, unless there is a hurry.
        """
        self._patient = not self.answered
        with trio.move_on_after(LEAVE_S, shield=True):
            await self.stdin.aclose()
            await self.ended()
        if self.process.returncode is None or self._patient:
            self._signal_group(signal.SIGTERM)
            with trio.move_on_after(TERM_S, shield=True):
                await self._all_ended()
            if self._patient:
                with trio.move_on_after(FIRST_TERM_S - TERM_S, shield=True):
                    await self._all_ended_unless_in_a_hurry()
        with trio.move_on_after(KILL_S, shield=True):
            self._patient = False
            self._signal_group(signal.SIGKILL)
            await self.ended()
            while not self._group_is_empty():  # noqa: ASYNC110  # the end of a group gives no event
                await trio.sleep(POLL_S)
        if self.process.returncode is None:
            logger.warning("child does not die", extra={"backend": self.key, "pid": self.process.pid})
        with trio.move_on_after(KILL_S, shield=True):  # closing does not wait, Trio's checkpoint after it might
            await self.stdout.aclose()
            await self.stderr.aclose()

    async def _all_ended(self) -> None:
        """Wait for the child and, patiently, its group: what installs a program is often a child of the command."""
        await self.ended()
        while self._patient and not self._group_is_empty():  # noqa: ASYNC110  # the end of a group gives no event
            await trio.sleep(POLL_S)
        self._group_ended = True

    async def _all_ended_unless_in_a_hurry(self) -> None:
        async def cut_short() -> None:
            await self.hurry.wait()
            nursery.cancel_scope.cancel("the gateway shuts down")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut_short)
            await self._all_ended()
            nursery.cancel_scope.cancel("ended")

    def _group_is_empty(self) -> bool:
        """Whether nothing of the group is left, not even a zombie that process 1 has yet to reap.

        Asked once the leader is reaped.
        """
        with contextlib.suppress(ChildProcessError):
            # Where we inherit orphans (``orphans.inherits``): those of this group, at once.
            os.waitpid(-self.process.pid, os.WNOHANG)
        try:
            os.killpg(self.process.pid, 0)
        except (ProcessLookupError, PermissionError):
            return True
        return False

    def _signal_group(self, number: signal.Signals) -> None:
        if self._group_ended:
            return
        # The leader's pid is the group's number. It may be gone; macOS says EPERM for a group of zombies.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)


def _how(code: int) -> str:
    if code >= 0:
        return f"its process exited with code {code}"
    try:
        return f"its process was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"its process was ended by signal {-code}"


async def start(key: BackendKey, target: StdioTarget, hurry: trio.Event) -> Child:
    """Start a child in a process group and session of its own.

    ``hurry``: see ``Child.hurry``.

    Raises:
        BackendGone: it cannot be started; says which command and why. Nothing was executed.
    """
    try:
        with OWN.starting():
            process = await trio.lowlevel.open_process(
                list(target.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(target, os.environ),
                cwd=target.cwd,
                start_new_session=True,
            )
            OWN.add(process.pid)
    except (OSError, ValueError) as exc:
        raise BackendGone(backend=key, executed=Executed.NO, why=_why_not(target, exc)) from exc
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    return Child(
        key=key, process=process, stdin=process.stdin, stdout=process.stdout, stderr=process.stderr, hurry=hurry
    )


def _why_not(target: StdioTarget, exc: OSError | ValueError) -> str:
    command = target.command[0] if target.command else ""
    if isinstance(exc, FileNotFoundError | NotADirectoryError) and exc.filename == target.cwd:
        return f"the working directory {target.cwd!r} of command {command!r} does not exist"
    if isinstance(exc, FileNotFoundError):
        return f"command {command!r} was not found"
    if isinstance(exc, PermissionError):
        return f"command {command!r} may not be executed"
    why = exc.strerror if isinstance(exc, OSError) else "a NUL in its words or its environment"
    return f"command {command!r} cannot be started: {why}"
