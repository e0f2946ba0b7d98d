"""Conditions: how they follow each other, and what kstatus makes of them."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mcp_gateway.kube import schema
from mcp_gateway.kube.reconcile.conditions import (
    MAX_MESSAGE_CHARACTERS,
    STALLING,
    Reason,
    Verdict,
    bad,
    first_failing,
    good,
    is_new,
    is_said,
    status_after,
    unknown,
)
from tests.support.cluster import LATER, NOW
from tests.support.kstatus import kstatus

ACCEPTED = good(Reason.ACCEPTED, "yes")


@pytest.mark.parametrize(
    "verdicts, generation, said",
    [
        pytest.param({"Accepted": ACCEPTED, "Ready": good(Reason.READY, "")}, 1, "Current", id="ready"),
        pytest.param({"Accepted": ACCEPTED, "Ready": good(Reason.READY, "")}, 2, "InProgress", id="a newer spec"),
        pytest.param({"Ready": bad(Reason.NOT_READY, "")}, 1, "InProgress", id="not yet"),
        pytest.param(
            {"ResolvedRefs": bad(Reason.BACKEND_NOT_FOUND, ""), "Ready": bad(Reason.NOT_READY, "")},
            1,
            "InProgress",
            id="what is missing may come",
        ),
        pytest.param(
            {"ResolvedRefs": bad(Reason.REF_NOT_PERMITTED, ""), "Ready": bad(Reason.REFERENCE_GRANT_REQUIRED, "")},
            1,
            "InProgress",
            id="a grant may come",
        ),
        *(
            pytest.param({"Accepted": bad(reason, ""), "Ready": bad(Reason.NOT_READY, "")}, 1, "Failed", id=reason)
            for reason in sorted(STALLING)
        ),
    ],
)
def test_kstatus(verdicts: dict[str, Verdict], generation: int, said: str) -> None:
    status = status_after({}, verdicts, 1, NOW)
    assert kstatus({"metadata": {"generation": generation}, "status": status}) == said


def test_stalled_goes_when_its_cause_goes() -> None:
    stalled: Any = status_after({}, {"Accepted": bad(Reason.PREFIX_CONFLICT, "x")}, 1, NOW)
    assert [one["type"] for one in stalled["conditions"]] == ["Accepted", "Stalled"]
    assert stalled["conditions"][1]["reason"] == "PrefixConflict"
    mended: Any = status_after(stalled, {"Accepted": ACCEPTED}, 1, LATER)
    assert [one["type"] for one in mended["conditions"]] == ["Accepted"]


def test_a_reason_that_changes_without_the_status_keeps_its_time() -> None:
    before = status_after({}, {"Accepted": bad(Reason.NO_MATCHING_PARENT, "x")}, 1, NOW)
    after: Any = status_after(before, {"Accepted": bad(Reason.NOT_ALLOWED_BY_LISTENERS, "y")}, 2, LATER)
    assert after["conditions"][0]["lastTransitionTime"] == "2027-01-15T08:00:00Z"
    assert after["conditions"][0]["observedGeneration"] == 2


def test_a_problem_comes_before_an_open_question() -> None:
    verdicts = {"a": unknown(Reason.PENDING, "?"), "b": bad(Reason.BACKEND_NOT_FOUND, "!"), "c": ACCEPTED}
    assert first_failing(verdicts) is verdicts["b"]
    assert first_failing({"a": verdicts["a"], "c": ACCEPTED}) is verdicts["a"]
    assert first_failing({"c": ACCEPTED}) is None


def test_messages_have_a_bound() -> None:
    status: Any = status_after({}, {"Accepted": good(Reason.ACCEPTED, "x" * 10_000)}, 1, NOW)
    assert len(status["conditions"][0]["message"]) == MAX_MESSAGE_CHARACTERS


def test_absent_fields_are_left_out() -> None:
    assert status_after({}, {}, 3, NOW, a=None, b=0) == {"observedGeneration": 3, "conditions": [], "b": 0}


@pytest.mark.parametrize(
    "change, said",
    [
        pytest.param(lambda status: None, True, id="the same"),
        pytest.param(lambda status: status["conditions"].append({"type": "Theirs"}), True, id="a condition of others"),
        pytest.param(lambda status: status["conditions"].reverse(), True, id="another order"),
        pytest.param(lambda status: status.update(theirs=1), True, id="a field of others"),
        pytest.param(lambda status: status["conditions"].append({"type": "Stalled"}), False, id="one of ours too many"),
        pytest.param(lambda status: status["conditions"].pop(), False, id="one of ours too few"),
        pytest.param(lambda status: status["conditions"][0].update(message="z"), False, id="another message"),
        pytest.param(lambda status: status.update(lastError="x"), False, id="a field of ours too many"),
        pytest.param(lambda status: status.pop("endpoint"), False, id="a field of ours too few"),
        pytest.param(lambda status: status.clear(), False, id="nothing"),
    ],
)
def test_what_others_put_into_a_status_is_theirs(change: Callable[[Any], object], said: bool) -> None:
    verdicts = {"Accepted": ACCEPTED, "Ready": good(Reason.READY, "")}
    wanted = status_after({}, verdicts, 1, NOW, endpoint="http://x")
    before = copy.deepcopy(wanted)
    change(before)
    assert is_said(before, wanted) is said


def test_every_reason_is_one_that_the_crd_admits() -> None:
    assert all(reason.isalpha() for reason in Reason)
    assert schema.STALLED == "Stalled"


def test_every_reason_is_explained_to_users() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "kubernetes-conditions.md").read_text()
    assert {reason for reason in Reason if f"`{reason}`" not in text} == set()


@pytest.mark.parametrize(
    "document, said",
    [
        pytest.param({}, "Current", id="nothing is known of it"),
        pytest.param({"conditions": [{"type": "Ready", "status": "Unknown"}]}, "InProgress", id="not looked at yet"),
        pytest.param({"conditions": [{"type": "Reconciling", "status": "True"}]}, "InProgress", id="at work"),
        pytest.param({"conditions": [{"type": "Stalled", "status": "False"}]}, "Current", id="not stalled"),
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "True"}]},
            "Failed",
            id="stalled in spite of Ready",
        ),
        pytest.param({"observedGeneration": 0, "conditions": []}, "InProgress", id="another generation"),
    ],
)
def test_the_rules_of_kstatus(document: dict[str, Any], said: str) -> None:
    assert kstatus({"metadata": {"generation": 1}, "status": document}) == said
    assert kstatus({"metadata": {"generation": 1, "deletionTimestamp": "x"}, "status": document}) == "Terminating"


def test_what_the_crd_begins_with_is_no_decision() -> None:
    assert is_new({})
    assert is_new({"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Pending"}]})
    assert not is_new(status_after({}, {"Ready": unknown(Reason.PENDING, "")}, 1, NOW))
