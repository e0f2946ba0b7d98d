"""A gateway program whose names resolve as a test says: the resolver of the operating system, scripted.

Owns the file of names and the program that obeys it. Deliberately changes nothing of the product: it looks names up
through ``socket.getaddrinfo``, like every other program. Invariant: no name is asked for outside this machine; one
that the file does not have is not found.

The file lies beside the program's kubeconfig. Run: ``python -m tests.support.kube.names serve --kubernetes …``
"""

import fnmatch
import itertools
import json
import os
import socket
import threading
from pathlib import Path
from typing import Final

FILE: Final = "names.json"


class Names:
    """The names of a cluster, in a file that the program reads again for each look-up."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / FILE
        self.asked = self.file.with_suffix(".log")
        self._known: dict[str, list[list[str]]] = {}
        self._write()

    def give(self, name: str, *answers: list[str]) -> None:
        """Have a name, or a pattern of names, resolve: the n-th look-up of a name gives the n-th answer, and around."""
        self._known[name] = list(answers)
        self._write()

    def looked_up(self, name: str) -> int:
        """How often it was asked for."""
        return self.asked.read_text().split().count(name)

    def _write(self) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps(self._known))
        new.replace(self.file)
        self.asked.touch()


def _main() -> None:
    file = Path(os.environ["KUBECONFIG"]).with_name(FILE)
    log = file.with_suffix(".log")
    real = socket.getaddrinfo
    counters: dict[str, itertools.count[int]] = {}
    lock = threading.Lock()

    def addresses(name: str) -> list[str]:
        known: dict[str, list[list[str]]] = json.loads(file.read_text())
        answers = known.get(name) or next((known[one] for one in known if fnmatch.fnmatchcase(name, one)), None)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        with lock:
            turn = next(counters.setdefault(name, itertools.count()))
            with log.open("a") as out:
                out.write(f"{name}\n")
        return answers[turn % len(answers)]

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def]  # noqa: A002, ANN001, ANN202  # as in the standard library
        if host is None or flags & socket.AI_NUMERICHOST:
            return real(host, port, family, type, proto, flags)
        text = host.decode() if isinstance(host, bytes) else host
        try:
            return real(text, port, family, type, proto, flags | socket.AI_NUMERICHOST)
        except socket.gaierror:
            found = addresses(text.lower().rstrip("."))
        return [one for ip in found for one in real(ip, port, family, type, proto, flags | socket.AI_NUMERICHOST)]

    socket.getaddrinfo = getaddrinfo
    from mcp_gateway.cli import main  # noqa: PLC0415  # nothing of it may have looked before

    main()


if __name__ == "__main__":
    _main()
