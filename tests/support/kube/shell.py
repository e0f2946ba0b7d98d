"""A shell that runs the commands of a document as a reader would.

Owns what such a command finds: the programs of the tests, the cluster, and curl's way to the gateway. Deliberately
changes no command. Invariant: the first command that fails fails the test.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.kube import assets
from tests.support.kube.installation import Installation

HOST: Final = "mcp.127-0-0-1.sslip.io"
"""The host of the sample Gateway; port 8001 of it leads to the gateway."""


class Shell:
    """Runs the commands of a document: the kubectl of the test, and curl that finds the gateway behind its name."""

    def __init__(self, cluster: Installation, gateway: str, folder: Path | None = None) -> None:
        programs = cluster.home / "bin"
        programs.mkdir(exist_ok=True)
        ours = Path(sys.executable).parent / "mcp-gateway"
        for program in (assets.program("kubectl"), assets.program("helm"), ours):
            (programs / program.name).unlink(missing_ok=True)
            (programs / program.name).symlink_to(program)
        (cluster.home / ".curlrc").write_text(f'connect-to = "{HOST}:8001:{gateway}"\n')
        self.folder = folder
        self.environ = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(cluster.home),
            "CURL_HOME": str(cluster.home),
            "KUBECONFIG": cluster.api.kubeconfig,
        }

    def run(self, command: str) -> str:
        """Run to the end; it must succeed."""
        done = subprocess.run(  # noqa: TID251  # outside of any loop
            ["bash", "-euo", "pipefail", "-c", command],
            env=self.environ,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        return done.stdout

    def begin(self, command: str) -> subprocess.Popen[str]:
        """Run in the background."""
        return subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", command], env=self.environ, stdout=subprocess.DEVNULL, text=True
        )
