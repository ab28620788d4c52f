"""``autoscaler backtest`` and ``tune`` as users meet them: what they print, what they note, what they refuse."""

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from typer.testing import CliRunner

from autoscaler.cli import app
from autoscaler.simulation.load import daily, drawn

ROOT = Path(__file__).parents[2]

Run = Callable[..., "Done"]

POLICY = """
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: web, namespace: shop}
spec:
  scaleTargetRef: {name: web}
  minReplicas: 2
  maxReplicas: 60
  interval: 60s
  metrics:
    - name: requests
      prometheus: {query: 'sum(rate(http_requests_total[1m]))'}
      target: {averageValue: "60"}
  policy: {type: movingAverage}
"""
SECOND = """
    - name: queue
      prometheus: {query: 'sum(queue_length)'}
      target: {averageValue: "5"}
"""
FIELDS = {
    *("trace", "policy", "late_share", "pod_seconds", "bound_pod_seconds", "cost_ratio", "scale_actions_per_hour"),
    *("reversals_per_hour", "churn", "under_share", "over_share", "peak_replicas", "seed"),
}


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a policy (policy.yaml) and a load of six hours (web.csv)."""
    rate = daily(500.0, 2000.0, 6 * 3600.0).rate
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "web.csv").write_text("timestamp_s,rate\n" + "".join(f"{60 * k},{value:.1f}\n" for k, value in enumerate(rate)))
    return tmp_path


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a verb in the folder, within this process: a start of Python each would take longer than what is tested."""
    monkeypatch.chdir(folder)

    def run(*arguments: str) -> Done:
        done = CliRunner().invoke(app, arguments)
        return Done(done.exit_code, done.stdout, done.stderr)

    return run


QUICK = ("--limit", "85", "--against", "none")
OWN = ("backtest", "-f", "policy.yaml", "--trace", "web.csv")


def test_everything_at_once(folder: Path) -> None:
    """The real program, with everything on."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "-m", "autoscaler", *OWN, "--limit", "85", "-o", "json", "--html", "page.html", "--seed", "3"]
    done = subprocess.run(command, cwd=folder, env={**kept, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "wrote page.html")
    found = json.loads(done.stdout)
    results = {each["policy"]: each for each in found["results"]}
    assert list(results) == ["movingAverage", "hpa", "hpa-tuned"]
    for each in results.values():
        assert set(each) >= FIELDS
        assert (each["trace"], each["seed"]) == ("web", 3)
        assert each["cost_ratio"] == pytest.approx(each["pod_seconds"] / found["bound"]["pod_seconds"])
        assert each["bound_pod_seconds"] == found["bound"]["pod_seconds"]
    assert results["hpa-tuned"]["late_share"] <= 0.002
    assert 1 < results["hpa-tuned"]["cost_ratio"] < results["hpa"]["cost_ratio"]
    assert found["hpa_tuned"]["reached"]
    assert found["plant"]["capacity"] == pytest.approx(100)
    assert (found["plant"]["startup_s"], found["warm_up_s"]) == (45, 5400)
    page = (folder / "page.html").read_text()
    assert page.count("<svg") == 4
    assert "hpa-tuned" in page
    assert not re.search(r"https?:|//[a-z]|<script|<link|@import|url\(", page)


def test_a_table_for_people(run: Run) -> None:
    done = run(*OWN, "--limit", "85", "--against", "hpa")
    header, own, hpa, bound = done.stdout.splitlines()
    assert header.split()[:2] == ["POLICY", "COST"]
    assert [line.split()[0] for line in (own, hpa, bound)] == ["movingAverage", "hpa", "bound"]
    assert "movingAverage would have cost" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_a_bar_for_each_stage_on_a_terminal(folder: Path) -> None:
    """The bar is on stderr, so that the table can be piped."""
    main, side = pty.openpty()
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    command = [sys.executable, "-m", "autoscaler", *OWN, "--limit", "85", "--against", "hpa"]
    environ = {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=side, cwd=folder, env=environ) as process:
        os.close(side)
        shown = b""
        try:
            while chunk := os.read(main, 65536):
                shown += chunk
        except OSError:  # how Linux says that the other side has closed
            pass
        table = process.stdout.read() if process.stdout else b""
    os.close(main)
    assert process.returncode == 0
    for stage in (b"the policy", b"the HPA"):
        assert re.search(stage + rb".*100%", shown)
    assert table.startswith(b"POLICY")
    assert b"\x1b" not in table


def test_the_same_seed_prints_the_same(run: Run) -> None:
    one, other = (run(*OWN, *QUICK, "-o", "json").stdout for _ in range(2))
    assert one == other


def test_forecasts_target_is_the_limit(run: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("movingAverage", "forecast"))
    found = json.loads(run(*OWN, "--against", "none", "-o", "json").stdout)
    assert (found["plant"]["limit"], found["results"][0]["policy"]) == (60, "forecast")


@pytest.mark.parametrize(
    ("csv", "notes"),
    [
        pytest.param("0,900\n60,900\n120,900\n", ["the rate never changes: 900 per second", "3 min of load say little"], id="constant"),
        pytest.param("0,900\n60,800\n120,\n180,nan\n240,700\n300,600\n", ["2 rows have no rate", "1 gaps, the longest 2 min"], id="gap"),
        pytest.param("0,900\n3600,800\n7200,700\n", ["the rows are 1 h apart: what the load does in between is not known"], id="coarse"),
        pytest.param(
            "0,9000\n60,800\n120,9000\n",
            ["66.7% of the time the load needs more than maxReplicas, 60: no policy may keep it"],
            id="over-max",
        ),
        pytest.param("1700000040,900\n1700000100,800\n1700000160,900\n", ["3 min of load"], id="unix-stamps"),
    ],
)
def test_what_is_assumed_of_a_load_is_said(run: Run, tmp_path: Path, csv: str, notes: list[str]) -> None:
    (tmp_path / "odd.csv").write_text("timestamp_s,rate\n" + csv)
    done = run("backtest", "-f", "policy.yaml", "--trace", "odd.csv", *QUICK)
    assert done.returncode == 0, done.stderr
    for note in notes:
        assert f"note: {note}" in done.stderr


def test_of_two_metrics_one_is_simulated(run: Run, tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.replace("  policy:", SECOND.strip("\n") + "\n  policy:"))
    assert "note: metric queue is left out: the trace is taken as requests; --metric" in run(*OWN, *QUICK).stderr
    other = run(*OWN, *QUICK, "--metric", "requests")
    assert (other.returncode, "queue" in other.stderr) == (0, False)


@pytest.mark.parametrize(
    ("csv", "complaint"),
    [
        pytest.param("0,5\n", "expected at least two rows with a rate, found 1", id="one-row"),
        pytest.param("0,0\n60,0\n", "every rate is 0: there is no load to scale for", id="zeros"),
        pytest.param("0,5\n0,6\n", "bad.csv:3: timestamp_s: 0 is there twice", id="duplicate"),
        pytest.param("60,5\n0,6\n", "bad.csv:3: timestamp_s: 0 is there out of order", id="unordered"),
        pytest.param("0,-5\n60,6\n", "bad.csv:2: rate: expected 0 to 1e+12 per second, found -5", id="negative"),
        pytest.param("0,5\n1,6\n2,5\n", "bad.csv: the load lasts less than two steps of 15 s, expected some days", id="seconds"),
        pytest.param("0,5\n60,6\n120,1e9\n180,5\n", "e+08 2.25 min after its start, which at 85 a pod are 1.03e+07", id="one-absurd-row"),
        pytest.param("0,5\n60,1e20\n", "bad.csv:3: rate: expected 0 to 1e+12 per second, found 1e20", id="absurd"),
    ],
)
def test_a_load_that_is_none_is_refused(run: Run, tmp_path: Path, csv: str, complaint: str) -> None:
    (tmp_path / "bad.csv").write_text("timestamp_s,rate\n" + csv)
    done = run("backtest", "-f", "policy.yaml", "--trace", "bad.csv", *QUICK)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: bad.csv")
    assert complaint in done.stderr


def test_of_a_policy_for_many_one_workload_is_chosen(run: Run, folder: Path) -> None:
    many = POLICY.replace("scaleTargetRef: {name: web}", "targets: {kind: Deployment, selector: {}}")
    (folder / "policy.yaml").write_text(many.replace("sum(rate(http_requests_total[1m]))'", "load', labels: {name: app}"))
    done = run(*OWN, *QUICK)
    assert (done.returncode, done.stdout) == (3, "")
    assert "the policy is for many workloads; choose one of them with --workload" in done.stderr
    assert run(*OWN, *QUICK, "--workload", "shop/api").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        pytest.param((*OWN,), "what one pod of Deployment shop/web carries is not known", id="no-limit"),
        pytest.param(("backtest", "-f", "policy.yaml", *QUICK), "expected one load: --trace CSV, or --prometheus URL", id="no-load"),
        pytest.param((*OWN, *QUICK, "--prometheus", "http://127.0.0.1:9"), "expected one load", id="two-loads"),
        pytest.param((*OWN, "--limit", "85", "--against", "vpa"), "--against vpa: expected hpa, hpa-tuned or none", id="unknown-peer"),
        pytest.param((*OWN, *QUICK, "--startup", "45"), "--startup: ", id="duration-without-unit"),
        pytest.param((*OWN, *QUICK, "--warm-up", "7h"), "the load lasts 21600 s, expected more than the 25200 s", id="all-warm-up"),
        pytest.param((*OWN, *QUICK, "--metric", "cpu"), "--metric cpu: Deployment shop/web has no such metric", id="no-metric"),
        pytest.param(
            (*OWN, *QUICK, "--workload", "api"), "--workload api: no policy in the file is for it; there are shop/web", id="nobody"
        ),
        pytest.param((*OWN, "--limit", "0.001"), "e+06 pods, expected at most 20000: is the limit in", id="absurd-limit"),
        pytest.param((*OWN, *QUICK, "--html", "no/page.html"), "--html no/page.html: no such directory", id="no-directory"),
        pytest.param(("backtest", "-f", "none.yaml", "--trace", "web.csv"), "none.yaml", id="no-file"),
        pytest.param(
            ("tune", "-f", "policy.yaml", "--prometheus", "http://127.0.0.1:9", "--latency", "a", "--late", "b"),
            "expected one objective",
            id="two-objectives",
        ),
        pytest.param(
            ("tune", "-f", "policy.yaml", "--prometheus", "http://127.0.0.1:9", "--late", "b"),
            "--late and --total: expected both",
            id="half",
        ),
    ],
)
def test_what_cannot_be_done_is_refused(run: Run, arguments: tuple[str, ...], complaint: str) -> None:
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (3, "")
    assert complaint in done.stderr


def test_a_prometheus_that_is_not_there(run: Run) -> None:
    done = run("backtest", "-f", "policy.yaml", "--prometheus", "http://127.0.0.1:9", *QUICK)
    assert (done.returncode, done.stdout) == (1, "")
    assert "127.0.0.1:9" in done.stderr


def test_exact_loads_are_not_drawn(run: Run) -> None:
    """A load in another unit than requests has no chance in it."""
    drawn_, exact = (json.loads(run(*OWN, *QUICK, "-o", "json", *more).stdout)["results"][0] for more in ((), ("--exact",)))
    rate = daily(500.0, 2000.0, 6 * 3600.0).rate
    assert drawn_["requests"] != exact["requests"]
    assert drawn_["requests"] == pytest.approx(drawn(rate, 60.0, 0)[90:].sum(), rel=0.01)
    assert exact["requests"] == pytest.approx(np.sum(rate[90:]) * 60, rel=0.01)
