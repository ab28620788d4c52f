"""The demo: the loads that it plays, the service's own loop on them, and the program from start to Ctrl-C."""

import asyncio
import signal
import subprocess
import sys
from contextlib import suppress
from importlib.resources import as_file, files

import numpy as np
import pytest

from autoscaler import metrics
from autoscaler.adapters.memory import MemoryCluster, MemorySource
from autoscaler.adapters.memory_pods import MemoryPods
from autoscaler.cli.demo import _admit, _populate
from autoscaler.clock import ManualClock
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.report import Report
from autoscaler.core.spec import Query
from autoscaler.loops.board import Board
from autoscaler.loops.group import Surroundings
from autoscaler.loops.health import HealthLoop, Ward
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.policyfile.load import load
from autoscaler.simulation import patients
from autoscaler.simulation.showcase import HISTORY_S, NAMESPACE, PATIENTS, PLANT, PLAYS, stages
from autoscaler.testing.recorder import MemoryRecorder


def test_policies_are_for_the_workloads_that_are_there() -> None:
    with as_file(files("autoscaler.cli") / "demo.yaml") as path:
        policies = load([path], 0.0)
    assert policies.warnings == ()
    assert {spec.workload for spec in policies.specs} == {play.workload for play in PLAYS}
    assert [(spec.namespace, spec.requirements) for spec in policies.health] == [(NAMESPACE, ())]


async def test_three_workloads_fall_ill_and_one_pod_is_replaced() -> None:
    """Each is seen and told of once; at an hour a minute all of that has happened after twenty seconds."""
    clock, told = ManualClock(), list[Report]()
    pods, recorder = MemoryPods(clock), MemoryRecorder()
    _admit(pods, clock)
    health = HealthLoop(Ward(pods, clock, recorder, actions=pods, told=told.append))
    with as_file(files("autoscaler.cli") / "demo.yaml") as path:
        health.use(load([path], clock.now()).health)
    running = [asyncio.create_task(health.run()), asyncio.create_task(patients.play(PATIENTS, pods, clock))]
    first = {pod.uid for pod in pods.owned(PATIENTS[0].workload) or ()}
    await clock.advance(1200.0)
    fired = [each.change.incident.finding for each in told if each.change.kind is Kind.FIRED]
    seen = [(finding.subject.name, str(finding.cause)) for finding in fired]
    assert seen == [("mailer", "CrashLoop"), ("search", "OutOfMemory"), ("billing", "Unready")]
    assert {row["name"]: row["phase"] for row in health.rows()} == {"billing": "firing", "search": "resolved", "mailer": "resolved"}
    assert recorder.value(metrics.REMEDIES, "CrashLoop", "done", "") == 1
    assert len(first - {pod.uid for pod in pods.owned(PATIENTS[0].workload) or ()}) == 1
    await clock.advance(3 * 3600.0)
    assert len([each for each in told if each.change.kind is Kind.FIRED]) == 7, "and again each one and a half hours"
    assert recorder.value(metrics.HEALTH_PASSES_FAILED) is None
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def test_the_past_can_be_asked_for() -> None:
    clock = ManualClock()
    cluster, source = MemoryCluster(clock), MemorySource(clock)
    _populate(cluster, source, clock)
    past = asyncio.run(source.range(Query("load"), clock.now() - HISTORY_S + 60.0, clock.now(), 15.0, 1.0))
    assert {labels["name"] for labels in past.labels} == {play.workload.name for play in PLAYS}
    assert not np.isnan(past.values).any()


async def test_replicas_follow_the_load_and_survive_the_crowd() -> None:
    clock = ManualClock()
    cluster, source, recorder = MemoryCluster(clock), MemorySource(clock), MemoryRecorder()
    _populate(cluster, source, clock)
    loop = ScalingLoop(Surroundings(source, cluster, clock, recorder, asyncio.Semaphore(16)))
    with as_file(files("autoscaler.cli") / "demo.yaml") as path:
        loop.update(load([path], clock.now()).specs)
    board = Board(loop, cluster, recorder)
    running = [asyncio.create_task(cluster.run()), asyncio.create_task(loop.run())]
    seen: dict[str, list[tuple[float, float]]] = {play.workload.name: [] for play in PLAYS}
    for _ in range(60):
        await clock.advance(120.0)
        for row in board.workloads():
            seen[row["name"]].append((row["series"][0]["load"], row["ready"]))
    await loop.close(1.0)
    for task in running:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    load_, ready = np.array(seen["news"]).T
    assert load_.max() > 10 * np.median(load_[:10]), "a flash crowd comes"
    assert ready[load_.argmax() : load_.argmax() + 3].max() > 0.8 * load_.max() / 85, "and is met"
    for name in ("web", "orders"):
        load_, ready = np.array(seen[name]).T
        busy = load_ / (ready * 100.0)
        assert 0.5 < np.median(busy) < busy.max() < 0.95, f"{name} runs near its target and never over its pods' capacity"
        assert np.corrcoef(load_, ready)[0, 1] > 0.7, f"{name}'s replicas follow its load"


def test_loads_are_recorded_ones_and_last_for_hours() -> None:
    for play, stage in zip(PLAYS, stages(1_800_000_000.0), strict=True):
        assert stage.workloads == (play.workload,)
        assert stage.at_s == 1_800_000_000.0 - HISTORY_S
        readings = list(stage.advance(stage.at_s + 600.0))
        assert len(readings) == 600 / PLANT.step_s


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, id="ctrl-c"), pytest.param(signal.SIGHUP, id="terminal-closed")])
def test_the_program_tells_in_lines_and_ends_clean(number: signal.Signals) -> None:
    arguments = [sys.executable, "-m", "autoscaler", "demo", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        first = program.stdout.readline()
        program.send_signal(number)
        out, err = program.communicate(timeout=30)
    assert first.count("|") == 3
    assert " shop/web load " in first
    assert "the demo answers on http://127.0.0.1:" in err
    assert "Traceback" not in out + err
    assert program.returncode == 0


def test_a_reader_that_has_enough_ends_it() -> None:
    arguments = [sys.executable, "-m", "autoscaler", "demo", "--port", "0"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        err = program.stderr.read()
    assert "Traceback" not in err
