"""When Python looks for reference cycles, which stops the event loop.

Owns the collector's settings for a process that serves. Deliberately nothing else. Invariant: what was loaded before
serving is never looked at again, so that a pause grows with the calls in flight and not with the program.

Measured with 200 calls in flight (``bench cancel``): by default full collections stopped the loop for 50-120 ms every
few seconds, which was the whole tail of the cancel latencies; with these settings one took at most 13 ms of CPU time.
"""

import gc
from typing import Final

THRESHOLDS: Final = (5_000, 5, 10)
"""Allocations until the young are looked at, and how often that happens before the next older generation's turn. A call
makes some 400 objects: most are gone before the first look, and a look at 5,000 takes 2-3 ms."""


def spare_the_loop() -> None:
    """Set the collector up for serving; called once, when everything is imported."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)


def leave_the_rest() -> None:
    """Look no more: a process that ends in seconds gives everything back at once."""
    gc.disable()
