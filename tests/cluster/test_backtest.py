"""``backtest`` and ``tune`` on a real Prometheus with a fortnight of history."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from math import nan
from pathlib import Path

import numpy as np
import pytest

from tests.cluster.rig import History, Prometheus

ROOT = Path(__file__).parents[2]
STEP_S = 60.0
ROWS = 14 * 1440
LIMIT = 100.0
LATE_FROM = 90.0
"""Above so many requests a second and pod, the recorded requests were late."""

POLICY = """
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  minReplicas: 1
  maxReplicas: 60
  interval: 60s
  metrics:
    - name: requests
      prometheus: {query: 'QUERY'}
      target: {averageValue: "60"}   # a guess
  policy: {type: movingAverage}
"""
REQUESTS = 'sum(rate(http_requests_total{namespace="shop",app="web"}[2m]))'
SECOND = """    - name: queue
      prometheus: {query: 'sum(queue_length)'}
      target: {averageValue: "5"}
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def load() -> np.ndarray:
    """Requests a second by minute: a day's cycle of 300 to 900, a little restless."""
    minute = np.arange(float(ROWS))
    noise = np.random.default_rng(1).normal(0, 15, ROWS)
    return np.asarray(600 - 300 * np.cos(2 * np.pi * minute / 1440) + noise)


def recorded(end_s: float) -> list[History]:
    """A counter that restarts and has an hour's gap, pods that were too few for six hours, starts of 20 pods, and odd metrics."""
    rate, start_s = load(), end_s - ROWS * STEP_S
    ready = np.repeat(np.ceil(rate.reshape(-1, 30).max(axis=1) / 80), 30)
    crowded = slice(8 * 1440 + 600, 8 * 1440 + 960)
    ready[5 * 1440 : 6 * 1440] = np.floor(rate[5 * 1440 : 6 * 1440] / 86)  # a day around what pods carry
    ready[crowded] = np.floor(rate[crowded] / 118)
    count = np.cumsum(rate * STEP_S)
    late = np.cumsum(np.maximum(rate - LATE_FROM * ready, 0) * STEP_S)
    for column in (count, late):
        column[5000:] -= column[4999]
    count[9000:9060] = late[9000:9060] = nan
    shop, web = {"namespace": "shop", "app": "web"}, {"namespace": "shop", "deployment": "web"}
    found = [
        History("http_requests_total", shop, start_s, STEP_S, count.tolist()),
        History("http_late_total", shop, start_s, STEP_S, late.tolist()),
        History("kube_deployment_status_replicas_ready", web, start_s, STEP_S, ready.tolist()),
        History("young", {}, end_s - 3 * 3600, STEP_S, rate[-180:].tolist()),
        *(History("split", {"zone": zone}, start_s, STEP_S, rate[:2000].tolist()) for zone in "ab"),
    ]
    for pod in range(20):
        made, names = end_s - 86400 + 600 * pod, {"namespace": "shop", "pod": f"web-5d9c7b-x{pod:04d}", "uid": str(pod)}
        found.append(History("kube_pod_created", names, made, STEP_S, [made] * 10))
        found.append(History("kube_pod_status_ready_time", names, made + 60, STEP_S, [made + 25 + pod] * 9))
    return found


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    prometheus = Prometheus(tmp_path_factory.mktemp("fortnight"))
    prometheus.fill(recorded(time.time() // STEP_S * STEP_S))
    with prometheus:
        yield prometheus


@pytest.fixture
def run(tmp_path: Path, history: Prometheus) -> Run:
    """Run a verb for a policy with this query (and what else stands in its metrics) against the filled Prometheus."""

    def run(verb: str, query: str, *arguments: str, more: str = "", many: str = "") -> subprocess.CompletedProcess[str]:
        text = POLICY.replace("QUERY", query).replace("  policy:", more + "  policy:")
        if many:
            text = text.replace("scaleTargetRef: {name: web}", "targets: {kind: Deployment, selector: {matchLabels: {app: shop}}}")
            text = text.replace(f"'{query}'", f"'{query}', labels: {{name: {many}}}")
        (tmp_path / "web.yaml").write_text(text)
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        command = [sys.executable, "-m", "autoscaler", verb, "-f", "web.yaml", "--prometheus", history.url, *arguments]
        return subprocess.run(command, cwd=tmp_path, env={**kept, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)

    return run


def test_a_fortnight(run: Run, tmp_path: Path) -> None:
    """80 640 points, over seven times what one query may have; the restart is no load, the gap and the crowded hours are said."""
    done = run("backtest", REQUESTS, "--limit", str(LIMIT), "--against", "hpa", "-o", "json", "--html", "page.html")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["span_s"] == pytest.approx(14 * 86400, abs=300)
    assert [each["policy"] for each in found["results"]] == ["movingAverage", "hpa"]
    days = found["span_s"] - found["warm_up_s"]
    for each in found["results"]:
        assert each["requests"] == pytest.approx(600 * days, rel=0.02)
        assert each["peak_replicas"] <= 20
        assert 1 < each["cost_ratio"] < 2
    assert found["plant"]["startup_s"] == pytest.approx(42.1, abs=0.2)
    assert found["plant"]["startup_from"] == "90th percentile of 20 recorded pod starts"
    assert found["unknown_share"] == pytest.approx(360 / ROWS, abs=0.006)
    notes = " ".join(found["notes"])
    assert "1 gaps, the longest" in notes
    assert "true load unknown here" in notes
    assert "pods saturated: true load unknown here" in (tmp_path / "page.html").read_text()


def test_three_hours_where_a_fortnight_was_asked_for(run: Run) -> None:
    done = run("backtest", "young", "--limit", "100", "--against", "none")
    assert done.returncode == 0, done.stderr
    assert "note: asked for 14 d of history, found 3" in done.stderr
    assert "of load say little about a policy" in done.stderr


def test_of_two_metrics_the_one_with_history_is_used(run: Run) -> None:
    done = run("backtest", REQUESTS, "--limit", "100", "--against", "none", "--since", "1d", more=SECOND)
    assert done.returncode == 0, done.stderr
    assert "note: metric queue has no history and is left out" in done.stderr


def test_the_policys_own_saturation_query_counts(run: Run) -> None:
    """It says two hours of the day; the pods of that time are not looked at."""
    full = "      saturation: {query: 'hour() < bool 2'}\n"
    done = run("backtest", REQUESTS, "--limit", "100", "--against", "none", "--since", "1d", "-o", "json", more=full)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["unknown_share"] == pytest.approx(2 / 24, abs=0.005)


def test_one_of_many_workloads(run: Run) -> None:
    """A query for all workloads of a policy: the series with the workload's labels is its load."""
    done = run("backtest", "split", "--limit", "100", "--against", "none", "--workload", "a", many="zone")
    assert done.returncode == 0, done.stderr
    assert "asked for 14 d of history" not in done.stderr
    unnamed = run("backtest", "split", "--limit", "100", "--against", "none", many="zone")
    assert unnamed.returncode == 3
    assert "the policy is for many workloads; choose one of them with --workload" in unnamed.stderr


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        pytest.param("split", r'the query returns 2 series ({__name__="split", zone="a"}; ', id="several-series"),
        pytest.param("http_requests_total", "a counter, not a load; put rate(...[1m]) around it", id="counter"),
        pytest.param("nothing", "none of its metrics has any history", id="no-history"),
        pytest.param("sum(", "parse error", id="broken-query"),
    ],
)
def test_what_is_no_load_is_refused(run: Run, query: str, complaint: str) -> None:
    done = run("backtest", query, "--limit", "100", "--against", "none")
    assert done.returncode != 0
    assert done.stdout == ""
    assert complaint in done.stderr


def test_tune_finds_the_limit_and_prints_a_diff(run: Run, tmp_path: Path) -> None:
    query = "sum(rate(http_{}_total[2m]))"
    late, total = query.format("late"), query.format("requests")
    done = run("tune", REQUESTS, "--late", late, "--total", total, "-o", "json", "--html", "tune.html")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["limit"]["exceeded"]
    assert found["limit"]["load"] == pytest.approx(LATE_FROM, rel=0.06)
    assert found["limit"]["low"] <= found["limit"]["load"] <= found["limit"]["high"]
    assert found["target"] == pytest.approx(0.7 * found["limit"]["load"])
    assert '-      target: {averageValue: "60"}   # a guess' in found["diff"]
    assert f'+      target: {{averageValue: "{found["target"]:.4g}"}}   # a guess' in found["diff"]
    assert (tmp_path / "web.yaml").read_text() == POLICY.replace("QUERY", REQUESTS), "nothing is applied"
    assert "<svg" in (tmp_path / "tune.html").read_text()


def test_tune_without_an_objective_says_what_was_carried(run: Run) -> None:
    done = run("tune", REQUESTS)
    assert (done.returncode, done.stdout) == (0, "")
    assert "have carried up to" in done.stderr
    assert "whether within the objective is not known" in done.stderr
