from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from xrouter.messages import Usage
from xrouter.observability.build import make_metrics
from xrouter.observability.metrics import Metrics
from xrouter.observability.record import RequestRecord
from xrouter.observability.workers import FOLDER_VARIABLE, shared_metrics
from xrouter.settings_tables.observability import ObservabilitySettings

CHAT = "/v1/chat/completions"


def counting() -> Metrics:
    return make_metrics(
        ObservabilitySettings(), models=["xrouter", "small", "big"], policies=["learned", "passthrough"]
    )


def record(**fields: object) -> RequestRecord:
    defaults = {"request_id": "r", "api": CHAT, "model": "xrouter", "policy": "learned", "status": 200}
    return RequestRecord(**(defaults | fields))  # type: ignore[arg-type]


def samples(text: bytes) -> dict[str, dict[tuple[str, ...], float]]:
    """name -> label values in the order of their names -> value."""
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            labels = tuple(sample.labels[name] for name in sorted(sample.labels))
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


async def test_a_request_is_counted_in_every_way() -> None:
    metrics = counting()
    metrics.request_started()
    metrics.request_started()
    metrics.request_ended(
        record(
            latency_s=0.4,
            upstream_s=0.397,
            first_byte_s=0.2,
            cost_usd=Decimal("0.0021"),
            cache="miss",
        )
    )
    seen = samples(await metrics.render())
    assert seen["xrouter_requests_total"] == {(CHAT, "xrouter", "learned", "200"): 1}
    assert seen["xrouter_requests_in_flight"] == {(): 1}
    assert seen["xrouter_request_seconds_sum"] == {(CHAT, "xrouter"): 0.4}
    assert seen["xrouter_first_byte_seconds_count"] == {(CHAT, "xrouter"): 1}
    assert seen["xrouter_overhead_seconds_sum"][(CHAT,)] == pytest.approx(0.003)
    assert seen["xrouter_overhead_seconds_bucket"][(CHAT, "0.0025")] == 0
    assert seen["xrouter_overhead_seconds_bucket"][(CHAT, "0.005")] == 1
    assert seen["xrouter_cost_usd_total"] == {("xrouter",): 0.0021}
    assert seen["xrouter_cache_requests_total"] == {("miss",): 1}


async def test_a_hit_counts_what_it_saved_and_costs_nothing() -> None:
    metrics = counting()
    metrics.request_ended(record(cache="semantic", saved_usd=Decimal("0.5")))
    seen = samples(await metrics.render())
    assert seen["xrouter_cache_saved_usd_total"] == {("semantic",): 0.5}
    assert seen["xrouter_cache_requests_total"] == {("semantic",): 1}
    assert "xrouter_cost_usd_total" not in seen


async def test_every_other_event() -> None:
    metrics = counting()
    metrics.upstream_call("small", "ok", 1.5, Usage(100, 50, cached_tokens=30, reasoning_tokens=10))
    metrics.upstream_call("small", "upstream_timeout", 2.0)
    metrics.upstream_first_byte("small", 0.3)
    metrics.retried("small")
    metrics.circuit("small", "open")
    metrics.circuit("big", "half_open")
    metrics.decided("learned", 0.0008)
    metrics.ledger_committed(0.002)
    metrics.budget_refused("key")
    metrics.rate_limited("tokens")
    metrics.stream_opened()
    metrics.stream_opened()
    metrics.stream_closed()
    seen = samples(await metrics.render())
    assert seen["xrouter_upstream_calls_total"] == {("small", "ok"): 1, ("small", "upstream_timeout"): 1}
    assert seen["xrouter_upstream_call_seconds_sum"] == {("small",): 3.5}
    assert seen["xrouter_upstream_first_byte_seconds_sum"] == {("small",): 0.3}
    assert seen["xrouter_tokens_total"] == {
        ("input", "small"): 70,
        ("cached_input", "small"): 30,
        ("output", "small"): 40,
        ("reasoning", "small"): 10,
    }
    assert seen["xrouter_upstream_retries_total"] == {("small",): 1}
    assert seen["xrouter_circuit_state"] == {("small",): 2, ("big",): 1}
    assert seen["xrouter_decision_seconds_count"] == {("learned",): 1}
    assert seen["xrouter_ledger_commit_seconds_sum"] == {(): 0.002}
    assert seen["xrouter_budget_refusals_total"] == {("key",): 1}
    assert seen["xrouter_rate_limit_refusals_total"] == {("tokens",): 1}
    assert seen["xrouter_streams_open"] == {(): 1}


async def test_clients_cannot_make_labels() -> None:
    metrics = counting()
    for i in range(300):
        name = f'evil{i}"}}\n'
        metrics.request_ended(record(api=name, model=name, policy=name))
        metrics.upstream_call(name, f"outcome{i}", 1.0)
        metrics.circuit(name, "open")
        metrics.decided(name, 0.1)
    text = await metrics.render()
    assert b"evil" not in text
    seen = samples(text)
    assert seen["xrouter_requests_total"] == {("other", "other", "other", "200"): 300}
    assert len(seen["xrouter_upstream_calls_total"]) <= 33
    assert sum(seen["xrouter_upstream_calls_total"].values()) == 300


async def test_two_gateways_in_one_process_count_apart() -> None:
    one, other = counting(), counting()
    one.retried("small")
    assert "xrouter_upstream_retries_total" in samples(await one.render())
    assert "xrouter_upstream_retries_total" not in samples(await other.render())


async def test_off_counts_nothing_and_loads_nothing() -> None:
    metrics = make_metrics(ObservabilitySettings(metrics=False), models=["small"])
    assert type(metrics) is Metrics
    metrics.request_started()
    metrics.request_ended(record())
    metrics.upstream_call("small", "ok", 1.0, Usage(1, 1))
    assert await metrics.render() == b""


def test_off_needs_no_library() -> None:
    code = (
        "import sys; from xrouter.observability.build import make_metrics; from xrouter.settings import Settings;"
        "make_metrics(Settings().observability.__class__(metrics=False), models=[]);"
        "assert 'prometheus_client' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


WORKER = """
import asyncio, sys
from xrouter.observability.build import make_metrics
from xrouter.observability.record import RequestRecord
from xrouter.settings_tables.observability import ObservabilitySettings
metrics = make_metrics(ObservabilitySettings(), models=["small"])
for _ in range(int(sys.argv[1])):
    metrics.request_started()
    metrics.retried("small")
    metrics.decided("p", 0.001)
metrics.circuit("small", sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
sys.stdout.buffer.write(asyncio.run(metrics.render()))
"""


def test_workers_add_up_and_one_that_ended_has_nothing_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    with shared_metrics() as folder:
        assert os.environ[FOLDER_VARIABLE] == str(folder)
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            for arguments in (("2", "open"), ("3", "closed"))
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
        text, _ = workers[0].communicate(b"\n", timeout=30)
        seen = samples(text)
        assert seen["xrouter_upstream_retries_total"] == {("small",): 5}
        assert seen["xrouter_decision_seconds_count"] == {("other",): 5}
        assert seen["xrouter_requests_in_flight"] == {(): 5}
        assert seen["xrouter_circuit_state"] == {("small",): 2}
        end = f"from xrouter.observability.workers import worker_ended; worker_ended({workers[0].pid})"
        subprocess.run([sys.executable, "-c", end], check=True)
        text, _ = workers[1].communicate(b"\n", timeout=30)
        seen = samples(text)
        assert seen["xrouter_upstream_retries_total"] == {("small",): 5}, "what it counted stays"
        assert seen["xrouter_requests_in_flight"] == {(): 3}
        assert seen["xrouter_circuit_state"] == {("small",): 0}
    assert FOLDER_VARIABLE not in os.environ
    assert not folder.exists()


def test_a_folder_of_the_users_own_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "metrics"))
    with shared_metrics() as folder:
        assert folder == tmp_path / "metrics"
    assert folder.is_dir()
