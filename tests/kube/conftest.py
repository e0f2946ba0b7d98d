"""One API server for a session's tests of Kubernetes, and a namespace of its own for each test.

Owns the fixtures. Deliberately installs no controller: a test that runs one says so, and has a server to itself.
Invariant: without the programs no fixture runs, because the marker ``kube`` skips the test before.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.kube.apiserver import ApiServer
from tests.support.kube.kubectl import Kubectl, as_admin

GATEWAY_API: Final = Path(__file__).resolve().parent / "gateway-api"
CRDS: Final = Path(__file__).resolve().parent.parent.parent / "manifests" / "crds"
INSTALL_S: Final = 60.0

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def api_server() -> Iterator[ApiServer]:
    """A real API server with our CRDs and those of the Gateway API; nothing else is in it."""
    with ApiServer() as api:
        options = (f"--kubeconfig={api.kubeconfig}", f"--cache-dir={api.folder / 'kubectl'}")
        for words in (
            ("apply", "--server-side", "-f", str(GATEWAY_API)),
            ("apply", "--server-side", "-k", str(CRDS)),
            ("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"),
        ):
            code = api.run("kubectl", *options, *words).wait(INSTALL_S)
            assert code == 0, (api.folder / "kubectl.log").read_text()
        yield api


@pytest.fixture
async def kubectl(api_server: ApiServer) -> Kubectl:
    """kubectl as an administrator, in a namespace that no other test uses."""
    run = as_admin(api_server, f"test-{next(_numbers)}")
    await run("create", "namespace", run.namespace)
    return run
