"""The commands of docs/kubernetes.md.

Owns which of its blocks are commands. Deliberately runs none. Invariant: what is marked as ``sh`` is run by a test, and
what is marked as ``text`` needs what no test has.
"""

import re
from typing import Final

from tests.support.kube.installation import ROOT

TEXT: Final = (ROOT / "docs" / "kubernetes.md").read_text()
SECTIONS: Final = re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE)


def blocks(title: str) -> list[str]:
    """The commands of a section."""
    return re.findall(r"^```sh\n(.*?)^```$", dict(SECTIONS)[title], re.DOTALL | re.MULTILINE)


def script(title: str) -> str:
    """All of them together."""
    return "".join(blocks(title))
