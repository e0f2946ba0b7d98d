"""How the event loop is doing: its lag, and what its tasks wait for.

Owns the sampler and the task tree. Deliberately no Trio ``Instrument``: that would
cost something at every step of every task, the sampler costs four wake-ups a second.
Invariant: the tree has at most ``TREE_TASKS`` tasks and shows no values, only places in code.
"""

from collections import Counter
from typing import Final

import trio

from mcp_gateway.telemetry.metrics import Metrics

PERIOD_S: Final = 0.25
TREE_TASKS: Final = 2_000
TREE_FRAMES: Final = 4
_ALIKE: Final = 20
"""So many tasks of one name below one parent are shown; the rest are counted."""


async def sample_loop(metrics: Metrics, period_s: float = PERIOD_S) -> None:
    """Measure how late a sleeping task wakes up, until cancelled."""
    while True:
        due_at = trio.current_time() + period_s
        await trio.sleep_until(due_at)
        metrics.loop(max(0.0, trio.current_time() - due_at), trio.lowlevel.current_statistics().tasks_living)


def task_tree() -> str:
    """Every task, below its parent, with the places in code where it waits (innermost first).

    Plain text for people; a task of Trio itself is the root.
    """
    root = trio.lowlevel.current_root_task()
    lines: list[str] = []
    tasks = 0
    stack: list[tuple[int, trio.lowlevel.Task | str]] = [(0, root)] if root is not None else []
    while stack:
        depth, task = stack.pop()
        indent = "  " * depth
        if isinstance(task, str):
            lines.append(f"{indent}{task}")
            continue
        if tasks >= TREE_TASKS:
            lines.append(f"(cut after {TREE_TASKS} tasks)")
            break
        tasks += 1
        lines.append(f"{indent}{task.name}{_place(task)}")
        stack.extend((depth + 1, child) for child in reversed(_children(task)))
    return "\n".join([f"{tasks} tasks", *lines, ""])


def _children(task: trio.lowlevel.Task) -> list[trio.lowlevel.Task | str]:
    """Children in order of name; a crowd of equal names is cut short."""
    found = [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    found.sort(key=lambda child: child.name)
    shown: Counter[str] = Counter()
    children: list[trio.lowlevel.Task | str] = []
    for child in found:
        shown[child.name] += 1
        if shown[child.name] <= _ALIKE:
            children.append(child)
    children += [f"(and {count - _ALIKE} more {name})" for name, count in shown.items() if count > _ALIKE]
    return children


def _place(task: trio.lowlevel.Task) -> str:
    frames = [
        f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
        for frame, line in task.iter_await_frames()
        if not frame.f_globals.get("__name__", "").startswith("trio._core.")  # the same everywhere
    ]
    return f"  [{' < '.join(reversed(frames[-TREE_FRAMES:]))}]" if frames else ""
