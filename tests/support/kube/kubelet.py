"""A stand-in for a kubelet: serves what ``kubectl logs`` asks for, from files, to the API server alone.

Owns an HTTPS server on the loopback interface. Deliberately runs no container.
Invariant: only whoever shows a certificate of the cluster's authority is answered.
"""

import http
import http.server
import ssl
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self, cast
from urllib.parse import parse_qs, urlsplit

from tests.support.kube.apiserver import ApiServer


class Kubelet(http.server.ThreadingHTTPServer):
    """Answers for the containers named ``namespace/pod/container`` with the files of their output."""

    daemon_threads = True

    def __init__(self, api: ApiServer, outputs: Mapping[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.outputs = outputs
        api.authority.issue("kubelet")
        trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(api.folder / "ca.crt"))
        trust.verify_mode = ssl.CERT_REQUIRED
        trust.load_cert_chain(api.folder / "kubelet.crt", api.folder / "kubelet.key")
        self.socket = trust.wrap_socket(self.socket, server_side=True)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def node(self, name: str) -> dict[str, object]:
        """The Node that leads the API server here; its status is written through the status subresource."""
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self.server_port}},
        }
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        url = urlsplit(self.path)
        output = cast(Kubelet, self.server).outputs.get(url.path.removeprefix("/containerLogs/"))
        if output is None:
            self.send_error(http.HTTPStatus.NOT_FOUND)
            return
        lines = output.read_bytes().splitlines(keepends=True)
        if tail := parse_qs(url.query).get("tailLines"):
            lines = lines[-int(tail[0]) :] if int(tail[0]) else []
        self.send_response(http.HTTPStatus.OK)
        self.end_headers()
        self.wfile.write(b"".join(lines))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- its name in the base class
        """Say nothing."""
