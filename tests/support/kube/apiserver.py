"""A real Kubernetes API server on the loopback interface: etcd and kube-apiserver, with RBAC and without controllers.

Owns the processes, their folder and the kubeconfigs that lead to them; they end with the block that started them.
Deliberately waits by looking again, not on Trio: one server is shared by a session's tests, each with its own loop.
Invariant: nothing of the machine's own Kubernetes configuration is read.

A test that wants the API away for a while ends ``server`` and calls ``start_server()`` again: same port, same data,
and every older resourceVersion is gone then. ``server.send_signal(SIGSTOP)`` leaves half-open connections.
"""

import contextlib
import http.client
import json
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

from tests.support.kube import assets
from tests.support.kube.authority import ClusterAuthority

START_S: Final = 90.0
"""A quiet machine needs 3 s; two cores that build something else at the same time need a lot more."""


class ApiServer:
    """etcd and kube-apiserver; ``options`` are added to the command line of kube-apiserver."""

    server: subprocess.Popen[bytes]

    def __init__(self, *options: str) -> None:
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="kube-"))
        self.authority = ClusterAuthority(self.folder)
        self.port, self.etcd = _free_port(), f"http://127.0.0.1:{_free_port()}"
        self.url = f"https://127.0.0.1:{self.port}"
        self._programs: list[subprocess.Popen[bytes]] = []
        self.authority.issue("server")
        self.authority.issue("accounts")  # only its key is used, to sign tokens
        self.authority.issue("admin", "system:masters")
        self.kubeconfig = self.kubeconfig_of("admin")

    def __enter__(self) -> Self:
        try:
            self.run(
                "etcd",
                "--data-dir=etcd",
                f"--listen-client-urls={self.etcd}",
                f"--advertise-client-urls={self.etcd}",
                "--listen-peer-urls=http://127.0.0.1:0",
                "--unsafe-no-fsync",
            )
            self.start_server()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for program in reversed(self._programs):
            program.kill()  # nothing is kept, so nothing has to be put in order
            program.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start_server(self) -> None:
        """Start kube-apiserver and wait until it is ready.

        Raises:
            RuntimeError: it ended, or was not ready within ``START_S``; the text has the end of its log.
        """
        self.server = self.run(
            "kube-apiserver",
            f"--etcd-servers={self.etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={self.port}",
            "--tls-cert-file=server.crt",
            "--tls-private-key-file=server.key",
            "--client-ca-file=ca.crt",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=accounts.key",
            "--service-account-signing-key-file=accounts.key",
            "--disable-admission-plugins=ServiceAccount",  # it insists on accounts that a controller makes
            "--endpoint-reconciler-type=none",  # an endpoint cannot have a loopback address
            "--service-cluster-ip-range=127.96.0.0/16",  # a Service can have one, and a test can listen on it
            "--kubelet-certificate-authority=ca.crt",
            "--kubelet-client-certificate=admin.crt",
            "--kubelet-client-key=admin.key",
            *self.options,
        )
        until = time.monotonic() + START_S
        while not self._is_ready():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(0.05)
            if self.server.poll() is not None or time.monotonic() > until:
                raise RuntimeError((self.folder / "kube-apiserver.log").read_text()[-4000:])

    def start_controllers(self, *names: str) -> subprocess.Popen[bytes]:
        """Start kube-controller-manager with these controllers only.

        Useful ones: ``namespace-controller``, ``garbage-collector-controller``, ``serviceaccount-controller``,
        ``endpointslice-controller``. Owners of a kind whose CRD is new are collected only after about 40 s.
        """
        return self.run(
            "kube-controller-manager",
            f"--kubeconfig={self.kubeconfig}",
            "--secure-port=0",
            "--leader-elect=false",
            "--service-account-private-key-file=accounts.key",
            "--root-ca-file=ca.crt",
            f"--controllers={','.join(names)}",
        )

    def run(self, program: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a program of the assets, which ends with the API server; its output lies in ``folder``."""
        with (self.folder / f"{program}.log").open("ab") as log:
            command = [str(assets.program(program)), *options]
            running = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        self._programs.append(running)
        return running

    def kubeconfig_of(self, name: str, token: str = "", dials: str = "") -> str:
        """Write a kubeconfig for the bearer of ``token``, or of the certificate issued as ``name``; return its path.

        ``dials``: something that stands before this server, with its certificate.
        """
        user = {"token": token} if token else {"client-certificate": f"{name}.crt", "client-key": f"{name}.key"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": dials or self.url, "certificate-authority": "ca.crt"}}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": name}}],
            "current-context": "test",
        }
        path = self.folder / f"{name}.kubeconfig"
        path.write_text(json.dumps(document))
        return str(path)

    def trust(self, name: str = "admin") -> ssl.SSLContext:
        """TLS settings of a client that trusts this server and shows the certificate issued as ``name``."""
        context = ssl.create_default_context(cafile=self.folder / "ca.crt")
        context.load_cert_chain(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        return context

    def _is_ready(self) -> bool:
        link = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=5, context=self.trust())
        with contextlib.closing(link), contextlib.suppress(OSError, http.client.HTTPException):
            link.request("GET", "/readyz")
            return link.getresponse().status == http.HTTPStatus.OK
        return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
