"""What the three Python peer servers share: their arguments, the listener, and the tools every SDK writes the same way.

Owns no protocol behaviour: that is the SDK's, which is the point of a peer. The programs run in environments of their
own, so nothing here imports the gateway or the test support. Invariant: a peer listens on 127.0.0.1 only, and prints
``listening on PORT`` on standard output once connections are accepted.
"""

import argparse
import logging
import socket
import time
from typing import Any

import anyio
import uvicorn
from mcp.types import Completion


def arguments(*flags: str) -> argparse.Namespace:
    """The command line: ``--port N`` (0 chooses one) and the given boolean flags."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    for flag in flags:
        parser.add_argument(flag, action="store_true")
    return parser.parse_args()


async def listen(app: Any, port: int) -> None:
    """Serve an ASGI application until the process is told to stop."""
    logging.disable(logging.ERROR)  # the traceback of a tool that fails on purpose takes the SDK half a second
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    # Leaving a test must not wait for its streams.
    # h11, not httptools, which leaves white space at the end of header values, where the SDK's checks trip over it.
    config = uvicorn.Config(app, http="h11", log_level="warning", lifespan="on", timeout_graceful_shutdown=1)
    # The kernel accepts from here on; uvicorn takes the connections over as soon as it runs.
    print(f"listening on {listener.getsockname()[1]}", flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


class Journal:
    """What happened to the slow calls, by label, in Unix seconds; lives as long as the process."""

    def __init__(self) -> None:
        self.started: dict[str, float] = {}
        self.finished: dict[str, float] = {}
        self.cancelled: dict[str, float] = {}

    def as_json(self) -> dict[str, dict[str, float]]:
        return {"started": self.started, "finished": self.finished, "cancelled": self.cancelled}


class Subscribers:
    """Which legacy session is subscribed to what. As with most servers, an update is told to no other session."""

    def __init__(self) -> None:
        self._held: set[tuple[int, str]] = set()

    def add(self, session: Any, uri: object) -> None:
        self._held.add((self._connection(session), str(uri)))

    def discard(self, session: Any, uri: object) -> None:
        self._held.discard((self._connection(session), str(uri)))

    def __contains__(self, pair: tuple[Any, str]) -> bool:
        return (self._connection(pair[0]), pair[1]) in self._held

    def _connection(self, session: Any) -> int:
        """In the SDK's first major version a session lives as long as its connection, in the second one a request."""
        return id(getattr(session, "_connection", session))


def register(server: Any, context_type: type) -> Journal:
    """Add the tools, the prompt and the resources that every SDK declares with the same decorators."""
    journal = Journal()
    Context: Any = context_type  # the SDKs find the context's parameter by its annotation

    @server.tool()
    def echo(text: str) -> str:
        """Give the text back."""
        return text

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two integers; the result is structured."""
        return a + b

    @server.tool()
    def fail(why: str) -> str:
        """Fail with the given reason."""
        raise ValueError(why)

    @server.tool()
    async def slow(ctx: Context, seconds: float = 30.0, steps: int = 10, label: str = "slow") -> str:
        """Take some time, report progress after each step, and note in the journal how it ended."""
        journal.started[label] = time.time()
        try:
            for step in range(steps):
                await ctx.report_progress(step, steps, f"step {step} of {steps}")
                await anyio.sleep(seconds / steps)
            await ctx.report_progress(steps, steps, "done")
        except anyio.get_cancelled_exc_class():
            journal.cancelled[label] = time.time()
            raise
        journal.finished[label] = time.time()
        return f"{label} done"

    @server.tool(name="journal")
    def read_journal() -> dict[str, dict[str, float]]:
        """Say when slow calls were started, finished and cancelled, by label."""
        return journal.as_json()

    @server.tool()
    def blob(size: int) -> str:
        """A text of the given size."""
        return "x" * size

    @server.prompt()
    def greet(name: str) -> str:
        """Ask for a greeting."""
        return f"Please greet {name}."

    @server.resource("peer://note", mime_type="text/plain")
    def note() -> str:
        """A resource with a fixed address."""
        return "a note"

    @server.resource("peer://note/{number}", mime_type="text/plain")
    def numbered_note(number: str) -> str:
        """A resource behind a template."""
        return f"note {number}"

    @server.completion()
    async def complete(reference: Any, argument: Any, context: Any) -> Completion:
        """Complete every argument with a name."""
        return Completion(values=[name for name in ("Ada", "Alan", "Grace") if name.startswith(argument.value)])

    return journal
