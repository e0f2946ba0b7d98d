"""Never answers: a child of it installs something into the named file, and needs 1.5 s after SIGTERM to do so cleanly.

``installs FILE stubborn``: the child does not mind SIGTERM at all.
"""

import os
import signal
import sys
import time
from pathlib import Path


def finish(*_: object) -> None:
    """What was begun is written to the end."""
    time.sleep(1.5)  # noqa: TID251  # a program of its own, without Trio
    Path(sys.argv[1]).write_text("whole")
    os._exit(0)


if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "stubborn" in sys.argv else finish)
    Path(sys.argv[1]).write_text("half")
    os.write(2, b"installing\n")
while True:
    signal.pause()
