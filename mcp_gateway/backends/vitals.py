"""The health of one backend, and what follows from it for the rest of the gateway.

Owns the health machine, the events that others wait for, and the withdrawal of
the last good list. Deliberately decides neither what a failure is nor when to
look (``supervisor``, ``rounds``). Invariant: after every change of health the
Snapshot that the world sees shows it.
"""

import logging

import attrs
import trio

from mcp_gateway.backends.discovery import Catalogue
from mcp_gateway.backends.health import HealthMachine
from mcp_gateway.backends.portrait import Portrait
from mcp_gateway.backends.transports.base import Hello
from mcp_gateway.errors import GatewayError

logger = logging.getLogger(__name__)


@attrs.define(eq=False, kw_only=True)
class Vitals:
    """Whether one backend is well."""

    machine: HealthMachine
    portrait: Portrait
    first_answer: trio.Event = attrs.field(factory=trio.Event)
    """The first attempt has succeeded or failed, or takes so long that nobody should wait for it."""
    settled: trio.Event = attrs.field(factory=trio.Event)
    """The first success, or the circuit has opened: there is no point in waiting longer."""
    _downfall: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.portrait.begin(self.machine.condition)

    def failed(self, error: GatewayError) -> None:
        """One more failure in the row."""
        opened = self.machine.failed(trio.current_time(), error.reason, error.fault)
        if opened:
            logger.warning("backend down", extra={"backend": self.portrait.backend, "why": error.reason})
            self._downfall.set()
            self.settled.set()
        elif not self.machine.open:
            fields = {"backend": self.portrait.backend, "failures": self.machine.failures, "why": error.reason}
            logger.info("backend failed", extra=fields)
        self.first_answer.set()
        self.announce()

    def answered(self) -> None:
        """A call was answered, whatever the answer."""
        if self.machine.failures:
            self.machine.answered(trio.current_time())
            self.announce()

    def probed(self) -> None:
        """A probe was answered in time."""
        self.machine.probed(trio.current_time())
        self.announce()

    def discovered(self, found: Catalogue, hello: Hello, began_at: float, *, loud: bool) -> None:
        """A discovery that began at ``began_at`` is complete; ``loud``: say so even if nothing is new."""
        now_at = trio.current_time()
        self.machine.discovered(now_at)
        self.portrait.discovered(found, hello, now_at - began_at, loud=loud)
        self.first_answer.set()
        self.settled.set()
        self.announce()

    async def let_list_expire(self) -> None:
        """Withdraw the last good list whenever the backend has been down for its grace; until cancelled."""
        while True:
            await self._downfall.wait()
            self._downfall = trio.Event()
            while (expires_at := self.machine.list_expires_at) is not None:
                await trio.sleep_until(expires_at)
                if self.machine.expire(trio.current_time()):
                    self.portrait.catalogue = None
                    logger.warning("list withdrawn", extra={"backend": self.portrait.backend})
                    self.announce()

    def announce(self) -> None:
        """Let the world see what is known now."""
        self.portrait.announce(self.machine.condition)
