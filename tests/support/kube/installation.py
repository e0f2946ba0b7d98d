"""The product installed on a real API server: `kubectl apply -k manifests/`, and both programs as processes.

Owns a server with our manifests and the samples, the processes of controller and data plane under their own
ServiceAccounts, and a test server behind a Service. Deliberately runs no kubelet but the stand-in for logs.
Invariant: what it started ends with it, whatever the test did.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Final, Self

from tests.support.kube import assets
from tests.support.kube.apiserver import ApiServer
from tests.support.kube.kubelet import Kubelet

ROOT: Final = Path(__file__).resolve().parent.parent.parent.parent
GATEWAY_API: Final = ROOT / "tests" / "kube" / "gateway-api"
SKEWED: Final = ROOT / "tests" / "support" / "kube" / "skewed"
"""A folder whose ``sitecustomize`` sets the wall clock of a Python program."""
SYSTEM: Final = "mcp-system"
CONTROLLER: Final = "mcp-gateway-controller"
DATA_PLANE: Final = "mcp-gateway-broker-router"
PATIENCE_S: Final = 60.0
"""For what takes a second on an idle machine."""


class Program:
    """One process of ours, its output in a file."""

    def __init__(self, words: list[str], log: Path, environ: dict[str, str]) -> None:
        self.log = log
        self._words, self._environ = words, environ
        self.process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as out:
            return subprocess.Popen(
                self._words, stdout=out, stderr=out, env=self._environ, cwd=ROOT, start_new_session=True
            )

    def again(self) -> None:
        """Start it once more."""
        self.process = self._begin()

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it and wait."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(PATIENCE_S)

    def wait_for(self, text: str) -> None:
        """Wait until it has said something."""
        until = time.monotonic() + PATIENCE_S
        while text not in self.log.read_text(errors="replace"):
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < until, self.log.read_text()[-4000:]
            time.sleep(0.05)  # noqa: TID251  # processes are waited for outside of any loop


class Installation:
    """Use as a context; ``kubectl`` is an administrator's."""

    module = "mcp_gateway.cli"
    """What is run as our programs."""

    def __init__(self, *options: str) -> None:
        self.api = ApiServer(*options)
        self.dials = ""
        """What programs that are started from now on dial instead of the API server; empty: nothing."""
        self.home = self.api.folder
        self._programs: list[Program] = []

    def __enter__(self) -> Self:
        self.api.__enter__()
        try:
            self.kubectl("apply", "--server-side", "-f", str(GATEWAY_API))
            self.install()
            self.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        except BaseException:
            self.__exit__()
            raise
        return self

    def install(self) -> None:
        """What a user does; another way in a class of its own."""
        self.kubectl("apply", "--server-side", "--validate=strict", "-k", str(ROOT / "manifests"))

    def __exit__(self, *_: object) -> None:
        for program in reversed(self._programs):
            if program.process.poll() is None:
                program.process.send_signal(signal.SIGCONT)
                program.process.kill()
            program.process.wait()
        self.api.__exit__()

    def said(self, *words: str, stdin: str = "", kubeconfig: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl; its exit status is not judged."""
        options = [f"--kubeconfig={kubeconfig or self.api.kubeconfig}", f"--cache-dir={self.home / 'kubectl'}"]
        return subprocess.run(  # noqa: TID251  # outside of any loop
            [str(assets.program("kubectl")), words[0], *options, *words[1:]],
            input=stdin,
            text=True,
            capture_output=True,
            timeout=PATIENCE_S * 2,
            check=False,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(self.home)},
        )

    def kubectl(self, *words: str, stdin: str = "") -> str:
        """Run kubectl, which must succeed."""
        said = self.said(*words, stdin=stdin)
        assert said.returncode == 0, f"{words}: {said.stderr}"
        return said.stdout

    def get(self, *words: str) -> dict[str, object]:
        """One object, or a list of them."""
        value = json.loads(self.kubectl("get", *words, "-o", "json"))
        assert isinstance(value, dict)
        return value

    def account(self, name: str, namespace: str = SYSTEM) -> str:
        """A kubeconfig for a ServiceAccount."""
        token = self.kubectl("create", "token", name, "-n", namespace, "--duration=2h").strip()
        return self.api.kubeconfig_of(f"{namespace}.{name}.{time.monotonic_ns()}", token, self.dials)

    def start(self, account: str, *words: str, pod: str = "", namespace: str = SYSTEM, skew_s: float = 0.0) -> Program:
        """A process of ours, as a Pod of ``account`` would run it; ``skew_s``: how far its wall clock is off."""
        skewed = {"PYTHONPATH": str(SKEWED), "SKEW_S": str(skew_s)} if skew_s else {}
        environ = {
            **os.environ,
            **skewed,
            "KUBECONFIG": self.account(account, namespace),
            "POD_NAME": pod or f"{account}-0",
            "POD_NAMESPACE": namespace,
        }
        log = self.home / f"{pod or account}.{len(self._programs)}.log"
        program = Program([sys.executable, "-m", self.module, *words], log, environ)
        self._programs.append(program)
        return program

    def controller(self, *words: str, pod: str = "", namespace: str = SYSTEM, skew_s: float = 0.0) -> Program:
        """A controller that has started."""
        options = ("--admin-bind", "127.0.0.1:0", *words)
        program = self.start(CONTROLLER, "controller", *options, pod=pod, namespace=namespace, skew_s=skew_s)
        program.wait_for("controller started")
        return program

    def data_plane(self, *words: str, pod: str = "", skew_s: float = 0.0) -> tuple[Program, str]:
        """A data plane that listens, and where."""
        program = self.start(
            DATA_PLANE,
            *("serve", "--kubernetes", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"),
            *("--allow-loopback-backends", *words),
            pod=pod,
            skew_s=skew_s,
        )
        program.wait_for("serving public=")
        line = next(line for line in program.log.read_text().splitlines() if "serving public=" in line)
        return program, line.partition("public=")[2].split()[0]

    def server(self, service: str, namespace: str, port: int) -> Program:
        """A small real MCP server on the address of a Service."""
        address = self.kubectl("get", "service", service, "-n", namespace, "-o", "jsonpath={.spec.clusterIP}")
        words = [sys.executable, "-m", "mcp_gateway.demo.http_server", "--bind", f"{address}:{port}"]
        program = Program(words, self.home / f"{service}.log", dict(os.environ))
        self._programs.append(program)
        program.wait_for("listening on")
        return program

    def kubelet(self, **programs: Program) -> Kubelet:
        """A stand-in that serves the logs of processes as those of the pods of Deployments of our namespace."""
        outputs = {}
        for name, program in programs.items():
            deployment = name.replace("_", "-")
            pod = f"{deployment}-0"
            spec = self.get("deployment", deployment, "-n", SYSTEM)
            container = _at(spec, "spec", "template", "spec", "containers")
            assert isinstance(container, list)
            outputs[f"{SYSTEM}/{pod}/{container[0]['name']}"] = program.log
        kubelet = Kubelet(self.api, outputs)
        self._place(kubelet, [name.replace("_", "-") for name in programs])
        return kubelet

    def _place(self, kubelet: Kubelet, deployments: list[str]) -> None:
        """A node, and a running pod on it for each Deployment, made of its template."""
        node = kubelet.node("node")
        self.kubectl("create", "-f", "-", stdin=json.dumps(node))
        self.kubectl("patch", "node", "node", "--subresource=status", "-p", json.dumps({"status": node["status"]}))
        for deployment in deployments:
            spec = self.get("deployment", deployment, "-n", SYSTEM)
            template = _at(spec, "spec", "template")
            assert isinstance(template, dict)
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**template["metadata"], "name": f"{deployment}-0", "namespace": SYSTEM},
                "spec": {**template["spec"], "nodeName": "node"},
            }
            self.kubectl("create", "-f", "-", stdin=json.dumps(pod))
            name = template["spec"]["containers"][0]["name"]
            state = {"name": name, "ready": True, "restartCount": 0, "image": "x", "imageID": "x"}
            running = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
            status = {"phase": "Running", "containerStatuses": [{**state, "state": running}]}
            patch = json.dumps({"status": status})
            self.kubectl("patch", "pod", f"{deployment}-0", "-n", SYSTEM, "--subresource=status", "-p", patch)

    def ask(self, where: str, host: str, body: dict[str, object], **headers: str) -> dict[str, object]:
        """One JSON-RPC request to the data plane, in the 2026-07-28 form where nothing else is said."""
        request = urllib.request.Request(
            f"http://{where}/mcp",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Host": host, **headers},
        )
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            value = json.loads(response.read())
        assert isinstance(value, dict)
        return value


def _at(value: object, *path: str) -> object:
    for step in path:
        assert isinstance(value, dict)
        value = value[step]
    return value
