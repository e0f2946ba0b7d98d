"""Tests of ``child``: what needs no process."""

import pytest
import trio

from mcp_gateway.backends.transports.base import GOODBYE_S
from mcp_gateway.backends.transports.child import STDERR_BURST, STOP_S, LineBudget, environment, start
from mcp_gateway.config.spec import StdioTarget
from mcp_gateway.errors import BackendGone, Executed
from mcp_gateway.values import BackendKey

KEY = BackendKey("files")


def test_a_child_inherits_only_what_is_harmless() -> None:
    ours = {"PATH": "/bin", "HOME": "/h", "GATEWAY_SIGNING_KEY": "secret", "AWS_SECRET_ACCESS_KEY": "secret"}
    target = StdioTarget(command=("x",), env=(("TOKEN", "t"), ("HOME", "/elsewhere")))
    assert environment(target, ours) == {"PATH": "/bin", "HOME": "/elsewhere", "TOKEN": "t"}


def test_stderr_is_logged_in_a_burst_and_then_slowly() -> None:
    budget = LineBudget()
    assert sum(budget.allows(5.0) for _ in range(1000)) == STDERR_BURST
    assert budget.suppressed == 1000 - STDERR_BURST
    assert sum(budget.allows(6.0) for _ in range(1000)) == budget.per_s
    assert sum(budget.allows(1e6) for _ in range(1000)) == STDERR_BURST


def test_stopping_fits_into_the_goodbye() -> None:
    assert STOP_S < GOODBYE_S


@pytest.mark.parametrize(
    "target, sentence",
    [
        pytest.param(
            StdioTarget(command=("no-such-program",)), "command 'no-such-program' was not found", id="missing"
        ),
        pytest.param(StdioTarget(command=("/dev/null",)), "command '/dev/null' may not be executed", id="no program"),
        pytest.param(
            StdioTarget(command=("true",), cwd="/no/such/place"),
            "the working directory '/no/such/place' of command 'true' does not exist",
            id="no directory",
        ),
        pytest.param(StdioTarget(command=("true", "\0")), "command 'true' cannot be started: a NUL", id="a NUL"),
        pytest.param(StdioTarget(command=("true", "x" * 2**20)), "cannot be started: Argument list", id="too long"),
    ],
)
async def test_a_command_that_cannot_be_started_is_named(target: StdioTarget, sentence: str) -> None:
    with pytest.raises(BackendGone) as caught:
        await start(KEY, target, trio.Event())
    assert sentence in caught.value.why
    assert caught.value.executed is Executed.NO
