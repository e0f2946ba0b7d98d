"""Conditions of a status, the way a test asks for them."""

from typing import Any

from mcp_gateway.kube.reconcile.outcome import Outcome


def conditions(outcome: Outcome) -> dict[str, tuple[str, str, str]]:
    """Status, reason and message by type."""
    assert outcome.status is not None
    found: Any = outcome.status.status["conditions"]
    return {one["type"]: (one["status"], one["reason"], one["message"]) for one in found}


def short(outcome: Outcome) -> dict[str, str]:
    """``True Reason`` by type."""
    return {type_: f"{status} {reason}" for type_, (status, reason, _) in conditions(outcome).items()}
