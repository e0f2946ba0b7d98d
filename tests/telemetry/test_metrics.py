"""What is counted, under which names, and that labels stay bounded."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from mcp_gateway.telemetry.metrics import STATES, WORDS, Metrics, Readings
from mcp_gateway.telemetry.series import SECONDS, Histogram

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"


def samples(metrics: Metrics) -> dict[str, float]:
    """Every sample of our own as ``name{label="value",...}``."""
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{name}={value}" for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return {name: value for name, value in found.items() if name.startswith("mcp_gateway_")}


def used() -> Metrics:
    """Metrics on which everything was called once."""
    metrics = Metrics()
    metrics.configure(["time"])
    metrics.request("tools/call", "time", "ok", 0.02)
    metrics.queued("time", 0.5)
    metrics.cancelled("disconnect", "sent")
    metrics.deadline("call", "time")
    metrics.server_state("time", "ready")
    metrics.discovery("time", 0.1, ok=True)
    metrics.discovery("time", 5.0, ok=False)
    metrics.items("time", tools=3, prompts=0, resources=1)
    metrics.reconnected("time")
    metrics.late_answer("time")
    metrics.message_skipped("time")
    metrics.kept_connection_lost("time")
    metrics.received(10)
    metrics.sent(20)
    metrics.reloaded(2, ok=True, now_unix_s=1_800_000_000)
    metrics.loop(0.001, 12)
    metrics.readings = Readings(
        connections=lambda: 4,
        connections_refused=lambda: 5,
        sessions=lambda: 6,
        streams=lambda: 7,
        log_lines_dropped=lambda: 8,
    )
    return metrics


def test_each_call_changes_its_series() -> None:
    found = samples(used())
    expected = {
        "requests_total{method=tools/call,outcome=ok,server=time}": 1,
        "request_duration_seconds_count{method=tools/call,server=time}": 1,
        "request_duration_seconds_sum{method=tools/call,server=time}": 0.02,
        "request_duration_seconds_bucket{le=0.01,method=tools/call,server=time}": 0,
        "request_duration_seconds_bucket{le=0.025,method=tools/call,server=time}": 1,
        "request_duration_seconds_bucket{le=+Inf,method=tools/call,server=time}": 1,
        "queue_seconds_sum{server=time}": 0.5,
        "in_flight{server=time}": 0,
        "cancellations_total{delivery=sent,source=disconnect}": 1,
        "deadlines_total{limit=call,server=time}": 1,
        "server_state{server=time,state=ready}": 1,
        "server_state{server=time,state=down}": 0,
        "discoveries_total{result=ok,server=time}": 1,
        "discoveries_total{result=failed,server=time}": 1,
        "discovery_duration_seconds_count{server=time}": 1,
        "server_items{kind=tools,server=time}": 3,
        "server_items{kind=resources,server=time}": 1,
        "reconnects_total{server=time}": 1,
        "late_answers_total{server=time}": 1,
        "messages_skipped_total{server=time}": 1,
        "kept_connections_lost_total{server=time}": 1,
        "received_bytes_total": 10,
        "sent_bytes_total": 20,
        "configuration_generation": 2,
        "configuration_last_reload_successful": 1,
        "configuration_last_reload_success_timestamp_seconds": 1_800_000_000,
        "loop_lag_seconds_count": 1,
        "tasks": 12,
        "connections": 4,
        "connections_refused_total": 5,
        "sessions": 6,
        "streams": 7,
        "log_lines_dropped_total": 8,
    }
    assert {name: found[f"mcp_gateway_{name}"] for name in expected} == expected


def test_the_document_has_every_metric_and_no_other() -> None:
    kinds = {}
    for line in used().render().decode().splitlines():
        if line.startswith("# TYPE mcp_gateway_"):
            _, _, name, kind = line.split()
            kinds[name] = kind
    rows = re.findall(r"^\| `(mcp_gateway_\w+)` \| (\w+) \|", DOCUMENT.read_text(), re.MULTILINE)
    assert dict(rows) == kinds


def test_unused_metrics_render_too() -> None:
    assert samples(Metrics())["mcp_gateway_connections"] == 0


def test_a_refused_reload_keeps_the_time_of_the_last_good_one() -> None:
    metrics = used()
    metrics.reloaded(2, ok=False, now_unix_s=1_900_000_000)
    found = samples(metrics)
    assert found["mcp_gateway_configuration_last_reload_successful"] == 0
    assert found["mcp_gateway_configuration_last_reload_success_timestamp_seconds"] == 1_800_000_000


def test_a_state_replaces_the_one_before() -> None:
    metrics = used()
    metrics.server_state("time", "down")
    found = samples(metrics)
    states = {state: found[f"mcp_gateway_server_state{{server=time,state={state}}}"] for state in STATES}
    assert states == dict.fromkeys(STATES, 0) | {"down": 1}


def test_calls_in_flight_are_counted_where_they_are_and_only_of_configured_servers() -> None:
    metrics = used()
    metrics.readings.in_flight = lambda: {"time": 2, "nobody": 5}
    found = {name: value for name, value in samples(metrics).items() if "in_flight" in name}
    assert found["mcp_gateway_in_flight{server=time}"] == 2
    assert not any("nobody" in name for name in found)


def test_series_of_a_removed_server_are_forgotten_and_others_stay() -> None:
    metrics = used()
    metrics.configure(["time", "files"])
    metrics.request("ping", "files", "ok", 0.1)
    metrics.request("ping", "", "ok", 0.1)
    metrics.configure(["files"])
    found = samples(metrics)
    assert not [name for name in found if "server=time" in name]
    assert "mcp_gateway_requests_total{method=ping,outcome=ok,server=files}" in found
    assert "mcp_gateway_requests_total{method=ping,outcome=ok,server=}" in found
    assert "mcp_gateway_cancellations_total{delivery=sent,source=disconnect}" in found


def test_no_text_of_a_client_becomes_a_label() -> None:
    metrics = Metrics()
    metrics.configure(["time"])
    for number in range(1000):
        metrics.request(f"evil/{number}", f"server{number}", f"outcome{number}", 0.1)
        metrics.cancelled(f"source{number}", "x" * 100)
    found = samples(metrics)
    assert len([name for name in found if name.startswith("mcp_gateway_requests_total")]) == WORDS + 1
    assert len([name for name in found if name.startswith("mcp_gateway_cancellations_total")]) == WORDS + 1
    assert "mcp_gateway_requests_total{method=other,outcome=other,server=other}" in found
    assert "mcp_gateway_cancellations_total{delivery=other,source=other}" in found


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_a_histogram_counts_each_value_once(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    buckets = histogram.buckets()
    assert buckets[-1][1] == len(values)
    assert histogram.total == pytest.approx(sum(values))
    for (name, count), bound in zip(buckets[:-1], SECONDS, strict=True):
        assert float(name) == bound
        assert count == sum(value <= bound for value in values)
