"""The real helm, and what it makes of our chart.

Owns how it is run. Deliberately understands none of its output but manifests. Invariant: it reads no configuration and
writes no cache of the user who runs the tests.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

import yaml

from mcp_gateway.values import JsonObject
from tests.support.kube import assets

CHART: Final = Path(__file__).resolve().parent.parent.parent.parent / "manifests" / "chart"


def said(home: Path, *words: str, kubeconfig: str = "") -> subprocess.CompletedProcess[str]:
    """Run helm, with its caches below ``home``; its exit status is not judged."""
    return subprocess.run(  # noqa: TID251  # outside of any loop
        [str(assets.program("helm")), *words],
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(home), "KUBECONFIG": kubeconfig},
    )


def helm(home: Path, *words: str, kubeconfig: str = "") -> str:
    """Run helm, which must succeed."""
    done = said(home, *words, kubeconfig=kubeconfig)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def rendered(home: Path, namespace: str, values: JsonObject) -> list[JsonObject]:
    """Every object of the chart."""
    file = home / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    text = helm(home, "template", "mcp-gateway", str(CHART), f"--namespace={namespace}", f"--values={file}")
    return [value for value in yaml.safe_load_all(text) if isinstance(value, dict)]
