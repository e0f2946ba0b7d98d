"""The real kubectl, for a test.

Owns how it is run: which server, which cache, what comes back. Deliberately understands none of its output.
Invariant: it reads no configuration of the user who runs the tests.
"""

import json
import os
from pathlib import Path

import attrs
import trio

from tests.support.kube import assets
from tests.support.kube.apiserver import ApiServer


@attrs.frozen(kw_only=True)
class Said:
    """What one command did."""

    code: int
    out: str
    err: str


@attrs.frozen(kw_only=True)
class Kubectl:
    """Runs kubectl against one server, as one user."""

    kubeconfig: str
    namespace: str
    """Every object is in it; empty: each is where it says."""
    home: Path
    """kubectl keeps what it has learnt of the server below it."""

    async def run(self, *words: str, stdin: str = "") -> Said:
        """Run one command; its exit status is not judged."""
        options = [f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.home}"]
        if self.namespace:
            options.append(f"--namespace={self.namespace}")
        done = await trio.run_process(
            [str(assets.program("kubectl")), words[0], *options, *words[1:]],
            stdin=stdin.encode(),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.home)},
        )
        return Said(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    async def __call__(self, *words: str, stdin: str = "") -> str:
        """Run one command that must succeed; returns what it printed."""
        said = await self.run(*words, stdin=stdin)
        assert said.code == 0, said.err
        return said.out

    async def apply(self, *documents: object) -> str:
        """Apply objects on the server's side, with strict validation; they may be given as values or as YAML."""
        text = "\n---\n".join(one if isinstance(one, str) else json.dumps(one) for one in documents)
        return await self("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text)

    async def refused(self, document: object) -> str:
        """Apply one object that the server must refuse; returns why it did."""
        text = document if isinstance(document, str) else json.dumps(document)
        said = await self.run("apply", "--server-side", "--validate=strict", "-f", "-", stdin=text)
        assert said.code != 0, said.out
        return said.err


def as_admin(api: ApiServer, namespace: str) -> Kubectl:
    """kubectl with every right."""
    return Kubectl(kubeconfig=api.kubeconfig, namespace=namespace, home=api.folder / "kubectl")


def condition_of(value: object, type_: str) -> str:
    """The status of one condition of an object; empty: it has none such."""
    status = value.get("status") if isinstance(value, dict) else None
    conditions = status.get("conditions") if isinstance(status, dict) else None
    return next((str(one["status"]) for one in conditions or () if one["type"] == type_), "")
