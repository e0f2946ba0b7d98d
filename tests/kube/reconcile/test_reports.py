"""Which reports are alive, which count, and when time alone changes that."""

import math

import attrs

from mcp_gateway.kube.objects import Key
from mcp_gateway.kube.own_objects import Report
from mcp_gateway.kube.reconcile.reports import ReportLog, fold_server
from tests.support.cluster import SERVER, report, server_said

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


def test_a_container_that_begins_again_in_its_pod_is_a_new_one() -> None:
    log = ReportLog(0.0)
    log.observe(report(startTime="2026-01-01T00:00:00Z"), 0.0)
    log.observe(report(complete=False, startTime="2026-01-01T00:00:50Z"), 50.0)
    assert pods(log, 60.0) == ["pod-1"]
    assert counting(log, 60.0) == []
    assert counting(log, 80.0) == ["pod-1"]


def test_what_is_swept_is_the_report_as_it_was_read_last() -> None:
    log = ReportLog(0.0)
    log.observe(renewed(0), 0.0)
    touched = attrs.evolve(renewed(0).meta, resource_version="7")
    log.observe(attrs.evolve(renewed(0), meta=touched), 60.0)
    (dead,) = log.expired(90.0)
    assert dead.meta.resource_version == "7"


def test_one_pod_more_changes_no_word_about_what_works() -> None:
    name, said = str(SERVER), [server_said("r")]
    one = fold_server(name, "r", (report("pod-1", servers=said),))
    assert fold_server(name, "r", (report("pod-1", servers=said), report("pod-2", servers=said))) == one


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
