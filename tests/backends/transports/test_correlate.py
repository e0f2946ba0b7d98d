"""Tests of ``correlate``: who a message on a shared pipe belongs to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.backends.transports.correlate import Correlator
from mcp_gateway.errors import Overload
from mcp_gateway.values import JsonValue, RequestId

SUBSCRIPTION = "io.modelcontextprotocol/subscriptionId"

IDS = st.integers(-2, 30)
STEPS = st.lists(
    st.one_of(
        st.just(("issue", 0)),
        st.tuples(st.just("answer"), IDS),
        st.tuples(st.just("leave"), IDS),
        st.tuples(st.just("progress"), IDS),
        st.just(("clear", 0)),
    ),
    max_size=80,
)


@given(steps=STEPS, bound=st.integers(1, 5))
def test_every_answer_reaches_its_own_exchange_at_most_once(steps: list[tuple[str, int]], bound: int) -> None:
    correlator: Correlator[object] = Correlator(bound=bound)
    waiting: dict[int, object] = {}
    issued: list[int] = []
    late = 0
    for step, number in steps:
        match step:
            case "issue" if len(waiting) < bound:
                owner = object()
                upstream_id = correlator.issue(owner)
                assert upstream_id not in issued
                issued.append(upstream_id)
                waiting[upstream_id] = owner
            case "issue":
                with pytest.raises(Overload):
                    correlator.issue(object())
            case "answer":
                late += number not in waiting
                assert correlator.take(number) is waiting.pop(number, None)
            case "leave":
                assert correlator.leave(number) is (waiting.pop(number, None) is not None)
            case "progress":
                params: dict[str, JsonValue] = {"progressToken": number}
                assert correlator.about("notifications/progress", params, modern=False) is waiting.get(number)
            case _:
                assert correlator.clear() == tuple(waiting.values())
                waiting.clear()
        assert correlator.waiting() == tuple(waiting.values())
        assert len(correlator) == len(waiting) <= bound
        assert correlator.late == late


@given(answered=st.one_of(st.none(), st.text(max_size=3), st.sampled_from(["1", "", "01"])))
def test_an_id_that_is_no_integer_is_never_ours(answered: RequestId | None) -> None:
    correlator: Correlator[str] = Correlator(bound=1)
    correlator.issue("mine")
    assert correlator.take(answered) is None
    assert correlator.late == 1
    assert correlator.take(1) == "mine"


def test_the_first_id_is_not_zero() -> None:
    assert Correlator[str](bound=1).issue("first") == 1


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(True, id="a bool is not the integer 1"),
        pytest.param("1", id="a string"),
        pytest.param(1.0, id="a float"),
        pytest.param(None, id="null"),
        pytest.param([1], id="a list"),
        pytest.param(2, id="nobody's"),
    ],
)
def test_progress_with_a_foreign_token_belongs_to_nobody(token: JsonValue) -> None:
    correlator: Correlator[str] = Correlator(bound=1)
    correlator.issue("mine")
    assert correlator.about("notifications/progress", {"progressToken": token}, modern=True) is None


@pytest.mark.parametrize(
    "method, params, modern, mine",
    [
        pytest.param("notifications/progress", {"progressToken": 1}, False, True, id="progress"),
        pytest.param("notifications/progress", {"progressToken": "task:1:7"}, False, True, id="progress of a task"),
        pytest.param("notifications/progress", {"progressToken": "task:2:7"}, False, False, id="of another's"),
        pytest.param("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION: 1}}, True, True, id="listen stream"),
        pytest.param("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION: "1"}}, True, False, id="other type"),
        pytest.param("notifications/tools/list_changed", {"_meta": {SUBSCRIPTION: 1}}, False, False, id="legacy"),
        pytest.param("notifications/tools/list_changed", {"_meta": 1}, True, False, id="odd _meta"),
        pytest.param("notifications/message", {"_meta": {}}, True, False, id="no subscription"),
        pytest.param("notifications/cancelled", {"requestId": 1}, True, True, id="a listen stream's end"),
        pytest.param("notifications/cancelled", {"requestId": 1}, False, False, id="a legacy server's own request"),
    ],
)
def test_notifications_belong_to_the_exchange_they_name(
    method: str, params: dict[str, JsonValue], modern: bool, mine: bool
) -> None:
    correlator: Correlator[str] = Correlator(bound=1)
    correlator.issue("mine")
    assert correlator.about(method, params, modern=modern) == ("mine" if mine else None)
