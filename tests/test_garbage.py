"""The collector's settings, in a process of their own: they are for good."""

import sys

import trio

CODE = """
import gc
from mcp_gateway import garbage

program = [[] for _ in range(10_000)]
garbage.spare_the_loop()
print(gc.get_freeze_count() > len(program), len(gc.get_objects()) < len(program), gc.get_threshold())
garbage.leave_the_rest()
print(gc.isenabled())
"""


async def test_a_serving_process_never_looks_at_the_loaded_program_again_and_an_ending_one_at_nothing() -> None:
    done = await trio.run_process([sys.executable, "-c", CODE], capture_stdout=True)
    assert done.stdout.decode().splitlines() == ["True True (5000, 5, 10)", "False"]
