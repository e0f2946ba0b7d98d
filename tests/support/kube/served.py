"""An installation that serves: the procedure's server is registered, both programs run, and clients call.

Owns what has to survive whatever is done to such a cluster, and the clients that would notice. Deliberately decides not
how it was installed (``Installation.install``). Invariant: ``under_load`` ends only after calls were made throughout.
"""

import contextlib
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Final

from tests.support.kube.installation import ROOT, SYSTEM, Installation, Program
from tests.support.kube.kubectl import condition_of
from tests.support.kube.traffic import Traffic

HOST: Final = "mcp.127-0-0-1.sslip.io"
PATIENCE_S: Final = 60.0
"""For what takes two seconds on an idle machine."""
SECRETS: Final = ("mcp-gateway-config", "mcp-gateway-session-signing-key")
REGISTERED: Final = ("mcpsr", "my-mcp-server", "-n", "mcp-test")


def until(true: Callable[[], object]) -> None:
    """Wait for it."""
    until_at = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < until_at, "it did not come true"
        time.sleep(0.05)  # noqa: TID251  # outside of any loop


def procedure() -> str:
    """The objects of the procedure for registering a server."""
    text = (ROOT / "tests" / "kube" / "seed" / "procedure.txt").read_text()
    return "\n---\n".join(block.partition("\nEOF\n")[0] for block in text.split("<<EOF\n")[1:])


class Served(Installation):
    """Call ``register`` and ``begin`` first."""

    controller_program: Program
    data_plane_program: Program
    where: str
    """The newest data plane."""
    data_planes = 0

    def register(self) -> None:
        """What the procedure has, and its server."""
        self.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/samples/seed"))
        self.kubectl("apply", "-f", "-", stdin=procedure())
        self.server("mcp-api-key-server", "mcp-test", 9090)

    def begin(self) -> None:
        """Both programs, until the server is ready."""
        self.controller_program = self.controller()
        self.add_data_plane()
        until(self.is_ready)

    def add_data_plane(self) -> None:
        """Another pod, ready for clients."""
        self.data_planes += 1
        self.data_plane_program, self.where = self.data_plane(pod=f"data-plane-{self.data_planes}")
        until(self._lets_clients_come)

    def _lets_clients_come(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{self.where}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def is_ready(self) -> bool:
        """Whether the registered server is."""
        return condition_of(self.get(*REGISTERED), "Ready") == "True"

    def signing_key(self) -> dict[str, str]:
        """The data of its Secret."""
        data = self.get("secret", SECRETS[1], "-n", SYSTEM)["data"]
        assert isinstance(data, dict)
        return data

    def kept(self) -> dict[str, object]:
        """What has to survive."""
        secrets = {name: self.get("secret", name, "-n", SYSTEM).get("data") for name in SECRETS}
        assert all(secrets.values())
        uids = self.kubectl("get", "mcpsr,mcpge", "-A", "-o", "jsonpath={.items[*].metadata.uid}")
        return {**secrets, "registrations": uids}

    def traffic(self) -> Traffic:
        """Clients of the newest data plane."""
        return Traffic(self.where, HOST, "myserver_add")

    @contextlib.contextmanager
    def under_load(self) -> Iterator[Traffic]:
        """No call fails while the block runs, and what has to survive does."""
        before = self.kept()
        with self.traffic() as traffic:
            until(lambda: traffic.calls > 4)
            yield traffic
            enough = traffic.calls + 10
            until(lambda: traffic.calls > enough)
        assert traffic.failures == []
        assert self.kept() == before
        until(self.is_ready)
