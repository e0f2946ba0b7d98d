"""Which reports are alive, which count, and when time alone changes that."""

import math

from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Report
from mcp_gateway.kube.reconcile.reports import ReportLog
from tests.support.cluster import report

POD = Key("mcp-system", "pod-1")


def pods(log: ReportLog, at: float) -> list[str]:
    return [one.report.pod for one in log.alive(at).seen]


def counting(log: ReportLog, at: float) -> list[str]:
    return [one.pod for one in log.alive(at).counting(at)]


def renewed(second: int, *, complete: bool = True) -> Report:
    return report(complete=complete, renewTime=f"2026-01-01T00:00:{second:02}Z")


def test_a_report_lives_for_90_seconds_after_it_last_changed() -> None:
    log = ReportLog(0.0)
    log.observe(renewed(0), 10.0)
    log.observe(renewed(0), 60.0)
    assert pods(log, 99.9) == ["pod-1"]
    assert pods(log, 100.0) == []
    assert [one.pod for one in log.expired(100.0)] == ["pod-1"]
    log.observe(renewed(30), 100.0)
    assert pods(log, 189.0) == ["pod-1"]
    assert not log.expired(189.0)


def test_a_report_counts_after_its_first_round_or_after_30_seconds() -> None:
    log = ReportLog(0.0)
    log.observe(renewed(0, complete=False), 10.0)
    assert counting(log, 39.9) == []
    assert counting(log, 40.0) == ["pod-1"]
    log.observe(renewed(1), 20.0)
    assert counting(log, 20.0) == ["pod-1"]


def test_a_pod_that_comes_again_under_its_name_is_a_new_one() -> None:
    log = ReportLog(0.0)
    log.observe(renewed(0, complete=False), 0.0)
    again = report(complete=False)
    object.__setattr__(again.meta, "uid", "another")
    log.observe(again, 50.0)
    assert counting(log, 60.0) == []


def test_no_report_is_no_news_for_30_seconds() -> None:
    log = ReportLog(100.0)
    assert not log.alive(129.9).are_gone(129.9)
    assert log.alive(130.0).are_gone(130.0)
    log.observe(renewed(0), 200.0)
    assert not log.alive(200.0).are_gone(200.0)
    log.forget(POD, 210.0)
    log.forget(POD, 220.0)
    assert not log.alive(239.9).are_gone(239.9)
    assert log.alive(240.0).are_gone(240.0)


def test_a_pod_that_died_without_a_word_is_gone_when_its_report_has_expired() -> None:
    log = ReportLog(0.0)
    log.observe(renewed(0), 100.0)
    assert not log.alive(219.9).are_gone(219.9)
    assert log.alive(220.0).are_gone(220.0)


def test_the_last_of_several_pods_decides_when_none_is_left() -> None:
    log = ReportLog(0.0)
    log.observe(report("a"), 0.0)
    log.observe(report("b"), 0.0)
    log.forget(Key("mcp-system", "a"), 50.0)
    assert pods(log, 50.0) == ["b"]
    log.forget(Key("mcp-system", "b"), 60.0)
    assert log.alive(90.0).are_gone(90.0)


def test_when_to_look_again() -> None:
    log = ReportLog(0.0)
    assert log.next_at(0.0) == 30.0
    assert log.next_at(30.0) == math.inf
    log.observe(renewed(0), 100.0)
    assert [log.next_at(at) for at in (100.0, 130.0, 190.0, 220.0)] == [130.0, 190.0, 220.0, math.inf]
