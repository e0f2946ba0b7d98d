"""How many connections are served at once."""

import resource

import pytest

from mcp_gateway.front.admission import Admission, cap_connections, raise_fd_limit


def test_places_are_bounded_and_come_back() -> None:
    admission = Admission(bound=2)
    assert [admission.enter() for _ in range(3)] == [True, True, False]
    assert (admission.open, admission.refused) == (2, 1)
    admission.leave()
    assert admission.enter()


def test_a_lower_bound_cuts_nobody_and_admits_nobody() -> None:
    admission = Admission(bound=2)
    assert admission.enter()
    assert admission.enter()
    admission.bound = 1
    admission.leave()
    assert not admission.enter()
    admission.leave()
    assert admission.enter()


@pytest.mark.parametrize(
    "wanted, limit, bound, warned",
    [(4000, None, 4000, 0), (4000, 65536, 4000, 0), (4000, 1024, 768, 1), (10, 100, 1, 1), (768, 1024, 768, 0)],
)
def test_connections_are_capped_by_open_files_and_that_is_said(
    wanted: int, limit: int | None, bound: int, warned: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert cap_connections(wanted, limit) == bound
    assert [record.message for record in caplog.records] == ["connections capped by the open files limit"] * warned


def test_the_soft_limit_of_open_files_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft if soft > 0 else 512), hard))
        assert raise_fd_limit() == (None if hard == resource.RLIM_INFINITY else hard)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
        assert raise_fd_limit() == (None if hard == resource.RLIM_INFINITY else hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_limit_that_cannot_be_raised_is_kept_and_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(which: int, limits: tuple[int, int]) -> None:
        raise ValueError("not allowed")

    monkeypatch.setattr(resource, "getrlimit", lambda which: (100, 200))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_fd_limit() == 100
    assert [record.message for record in caplog.records] == ["open files limit not raised"]
