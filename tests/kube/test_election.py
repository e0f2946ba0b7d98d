"""Who may write: what the record of a Lease means to one candidate."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_gateway.kube.election import LEASE_S, RENEW_DEADLINE_S, Election, Record
from mcp_gateway.values import JsonObject


@attrs.define
class Server:
    """One Lease as an API server keeps it: a write that names another version than the present one is refused."""

    spec: JsonObject | None = None
    version: int = 0

    def read(self) -> JsonObject | None:
        """The object, if there is one."""
        if self.spec is None:
            return None
        return {"metadata": {"resourceVersion": str(self.version)}, "spec": self.spec}

    def write(self, spec: JsonObject, version: str | None) -> JsonObject | None:
        """The object that was written; None: somebody was quicker."""
        if version != (None if self.spec is None else str(self.version)):
            return None
        self.spec, self.version = spec, self.version + 1
        return self.read()


def attempt(election: Election, server: Server, now_at: float, unix_s: float = 0.0) -> None:
    """What ``lease`` does at one moment."""
    election.see(server.read(), now_at)
    if election.may_write(now_at):
        written = server.write(election.claim(unix_s), election.version)
        if written is not None:
            election.written(written, now_at, now_at)


def test_a_lease_that_nobody_holds_is_taken_at_once() -> None:
    server, one = Server(), Election(identity="one")
    attempt(one, server, 0.0)
    assert one.leads(0.0)
    assert server.spec == {
        "holderIdentity": "one",
        "leaseDurationSeconds": 10,
        "acquireTime": "1970-01-01T00:00:00.000000Z",
        "renewTime": "1970-01-01T00:00:00.000000Z",
        "leaseTransitions": 0,
    }


def test_a_leader_that_renews_goes_on_leading() -> None:
    server, one, two = Server(), Election(identity="one"), Election(identity="two")
    for step in range(20):
        attempt(one, server, step * 2.0, step * 2.0)
        attempt(two, server, step * 2.0 + 1)
        assert one.leads(step * 2.0)
        assert not two.leads(step * 2.0 + 1)
    assert server.spec is not None
    assert server.spec["acquireTime"] == "1970-01-01T00:00:00.000000Z"
    assert server.spec["leaseTransitions"] == 0


def test_a_leader_stops_before_anybody_else_may_begin() -> None:
    server, one, two = Server(), Election(identity="one"), Election(identity="two")
    attempt(one, server, 0.0)
    attempt(two, server, 0.5)
    assert not one.leads(RENEW_DEADLINE_S)
    attempt(two, server, 0.4 + LEASE_S)
    assert not two.leads(0.4 + LEASE_S)
    attempt(two, server, 0.5 + LEASE_S)
    assert two.leads(0.5 + LEASE_S)
    assert server.spec is not None
    assert server.spec["leaseTransitions"] == 1


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    server, one, two = Server(), Election(identity="one"), Election(identity="two")
    attempt(one, server, 0.0)
    attempt(two, server, 0.1)
    assert server.write(one.release(1.0), one.version) is not None
    attempt(two, server, 0.2)
    assert two.leads(0.2)


def test_who_was_overtaken_leads_no_more_whatever_its_clock_says() -> None:
    server, one, two = Server(), Election(identity="one"), Election(identity="two")
    attempt(one, server, 0.0)
    attempt(two, server, 0.0)
    attempt(two, server, LEASE_S)
    assert server.write(one.claim(99.0), one.version) is None  # thawed: its write names an old version
    one.see(server.read(), LEASE_S)
    assert not one.leads(0.0)
    assert one.holder == "two"


@pytest.mark.parametrize(
    "edited",
    [
        pytest.param(None, id="deleted"),
        pytest.param({}, id="emptied"),
        pytest.param({"holderIdentity": None, "leaseTransitions": "many"}, id="garbage"),
    ],
)
def test_a_lease_that_was_deleted_or_emptied_is_made_anew(edited: JsonObject | None) -> None:
    server, one = Server(), Election(identity="one")
    attempt(one, server, 0.0)
    server.spec, server.version = edited, server.version + 1
    attempt(one, server, 1.0)
    assert one.leads(1.0)
    assert server.spec is not None
    assert server.spec["holderIdentity"] == "one"


def test_a_lease_that_somebody_else_wrote_himself_into_is_his_until_it_is_old() -> None:
    server, one = Server(), Election(identity="one")
    attempt(one, server, 0.0)
    server.spec, server.version = {"holderIdentity": "somebody"}, server.version + 1
    attempt(one, server, 1.0)
    assert not one.leads(1.0)
    attempt(one, server, 1.0 + LEASE_S)
    assert one.leads(1.0 + LEASE_S)


def test_a_lease_whose_transitions_cannot_grow_any_more_is_taken_all_the_same() -> None:
    server, one = Server(), Election(identity="one")
    server.spec, server.version = {"holderIdentity": "", "leaseTransitions": 2**31 - 1}, 1
    attempt(one, server, 0.0)
    assert one.leads(0.0)
    assert server.spec["leaseTransitions"] == 2**31 - 1


def test_an_odd_lease_is_read_as_an_empty_one() -> None:
    assert Record.of({"spec": ["odd"]}) == Record(holder="", renewed="", acquired="", transitions=0, version="")


@given(
    steps=st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), st.floats(0.0, 4.0), st.booleans()), max_size=60)
)
def test_never_do_two_lead_at_once(steps: list[tuple[str, float, bool]]) -> None:
    """Whoever acts, at whatever pace, with requests that get lost on the way back: of all candidates one may write."""
    server, now_at = Server(), 0.0
    candidates = {name: Election(identity=name) for name in ("one", "two", "three")}
    for name, pause_s, lost in steps:
        now_at += pause_s
        election = candidates[name]
        election.see(server.read(), now_at)
        if election.may_write(now_at):
            written = server.write(election.claim(now_at), election.version)
            if written is not None and not lost:
                election.written(written, now_at, now_at)
        assert sum(one.leads(now_at) for one in candidates.values()) <= 1
