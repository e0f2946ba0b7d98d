"""Where the Kubernetes programs of the tests lie.

Owns the order in which they are looked for. Deliberately builds nothing: ``just kube-assets`` does.
Invariant: all programs come from one folder, so their versions fit each other; the machine's own kubectl is never used.
"""

import os
import re
from pathlib import Path
from typing import Final

RECIPE: Final = Path(__file__).resolve().parent.parent.parent / "kube" / "assets"
PROGRAMS: Final = ("etcd", "kube-apiserver", "kubectl")
"""Without these no test of Kubernetes can run."""


def version() -> str:
    """The version of Kubernetes that the recipe builds."""
    found = re.search(r"^require k8s\.io/kubernetes v(\S+)", (RECIPE / "go.mod").read_text(), re.MULTILINE)
    assert found is not None
    return found[1]


def folder() -> Path:
    """``KUBEBUILDER_ASSETS``, else the folder in the user's cache that the recipe fills."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if named:
        return Path(named).resolve()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "mcp-gateway" / "kube" / version()


def program(name: str) -> Path:
    """The path of one program, whether it is there or not."""
    return folder() / name


def missing(*programs: str) -> str | None:
    """Which of ``programs``, or of those that no test can do without, this machine lacks, as one line; None: none."""
    absent = [name for name in programs or PROGRAMS if not os.access(program(name), os.X_OK)]
    return f"no {', '.join(absent)} in {folder()}; `just kube-assets` builds them" if absent else None
