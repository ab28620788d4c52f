"""Scaling by what a workload's own pods use: what is asked, what comes of it, and that nothing is done on what is not known."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from math import isnan
from typing import Any

import pytest

from autoscaler.adapters.memory_pods import MemoryPods, Template
from autoscaler.core.health.facts import Container, Owner, Pod, Resources
from autoscaler.core.spec import PolicyChoice, Query, SeriesSpec, Usage, WorkloadSpec
from autoscaler.core.types import TargetKind, Workload
from autoscaler.core.usage import SAMPLE_MAX_S, Sample
from autoscaler.errors import AnswerError, PermanentError, TransientError
from autoscaler.loops.usage import NAMESPACES_MAX
from policies.hpa import Hpa, HpaParams
from tests.core import build
from tests.core.health.build import ready
from tests.loops.rig import INTERVAL_S, Rig, running
from tests.loops.usage_world import HALF, MI, WEB, MemoryUsage, World, by_cpu, hanging, world


@pytest.mark.parametrize(
    "policy", [pytest.param("", id="demand"), pytest.param("hpa", id="hpa"), pytest.param("threshold", id="threshold")]
)
async def test_up_and_down_by_utilisation(policy: str) -> None:
    async with world([by_cpu(policy=policy)]) as w:
        up = await w.tick(0.45)
        series = up["series"][0]
        # 4 pods use 0.45 of the 0.5 that each requests: 1.8 / (0.6 x 0.5)
        assert (w.rig.replicas("web"), series["demand"], series["request"]) == (6, pytest.approx(6.0), 0.5)
        assert (series["query"], series["signal"], series["age_s"]) == ("cpu of all containers (metrics.k8s.io)", "OK", 10.0)
        await w.tick(0.3, 2)
        assert w.rig.replicas("web") == 6
        await w.tick(0.1)
        assert w.rig.replicas("web") == 2


async def test_the_pods_of_a_start_up_are_no_load() -> None:
    async with world([by_cpu()]) as w:
        await w.tick(0.45)
        seen = await w.tick(0.45)  # two pods of six are new, and as busy with their start
        assert (seen["series"][0]["load"], w.rig.replicas("web"), seen["coverage"]) == (pytest.approx(1.8), 6, pytest.approx(4 / 6))


@pytest.mark.parametrize(
    ("usage", "target", "kind", "replicas"),
    [
        pytest.param(Usage("cpu", "app"), 0.6, TargetKind.UTILIZATION, 4, id="container-utilisation"),
        pytest.param(Usage("cpu"), 0.5, TargetKind.AVERAGE_VALUE, 8, id="all-containers-value"),
        pytest.param(Usage("cpu", "app"), 0.5, TargetKind.AVERAGE_VALUE, 3, id="container-value"),
        pytest.param(Usage("memory"), 25 * MI, TargetKind.AVERAGE_VALUE, 16, id="memory-value"),
    ],
)
async def test_what_a_series_may_be(usage: Usage, target: float, kind: TargetKind, replicas: int) -> None:
    containers = (Container("app", resources=Resources(0.5)), Container("proxy", resources=Resources(2.0)))
    series = SeriesSpec("busy", usage, target, kind)
    async with world([by_cpu(series=(series,))], template=Template(containers)) as w:
        w.sample(WEB, 0.3)
        for name, sample in w.usage.samples.items():
            shares = {"app": (0.3, 50 * MI), "proxy": (0.7, 50 * MI)}
            w.usage.samples[name] = sample._replace(containers=shares)
        await w.tick()
        assert w.rig.replicas("web") == replicas


async def test_only_own_pods_count() -> None:
    async with world([by_cpu()]) as w:
        job = replace(w.pods.owned(WEB)[0], name="web-job", uid="job", owner=Owner("Job", "web", "job-uid"))  # type: ignore[index]
        w.pods.put(job)
        w.usage.samples["shop", "web-job"] = Sample(w.rig.clock.now() + 5, 10.0, {"app": (9.0, MI)})
        await w.tick(0.3)
        assert w.rig.replicas("web") == 4


async def test_a_container_without_a_request_is_left_out_and_its_pods_are_named() -> None:
    containers = (Container("app", resources=Resources(0.5)), Container("proxy"))
    async with world([by_cpu()], template=Template(containers)) as w:
        decision = await w.tick(0.3)
        names = ", ".join(pod.name for pod in (w.pods.owned(WEB) or ())[:3])
        assert w.rig.replicas("web") == 4
        assert decision["why"].endswith(f"busy: containers without a cpu request are left out, in 4 of 4 pods: {names}, …")


async def test_half_of_the_samples_is_not_half_the_load() -> None:
    async with world([by_cpu()]) as w:
        await w.tick(0.3)
        w.sample(WEB, 0.3)
        for pod in (w.pods.owned(WEB) or ())[:2]:
            del w.usage.samples["shop", pod.name]
        lost = await w.tick()
        assert (lost["reason"], lost["coverage"], w.rig.replicas("web")) == ("PARTIAL_DATA", 0.5, 4)
        assert "50% of the ready pods have a sample in metrics.k8s.io that counts" in lost["why"]


async def test_at_95_per_cent_of_its_limit_a_load_is_saturated() -> None:
    series = replace(by_cpu().series[0], target=1.9)
    async with world([by_cpu(series=(series,), startup_s=600.0)]) as w:
        decision = await w.tick(0.95)
        assert (decision["series"][0]["saturated"], decision["reason"], w.rig.replicas("web")) == (True, "SATURATED", 6)


FAULTS: list[Any] = [
    pytest.param(TransientError("503 ServiceUnavailable"), "UNREACHABLE", "metrics.k8s.io cannot be reached: 503", id="unavailable"),
    pytest.param(PermanentError("404; is metrics-server installed?"), "REFUSED", "refuses: 404; is metrics-server installed?", id="absent"),
    pytest.param(PermanentError("403 Forbidden: needed: a Role"), "REFUSED", "metrics.k8s.io refuses: 403", id="forbidden"),
    pytest.param(AnswerError("an HTML page"), "WRONG_TYPE", "metrics.k8s.io does not answer as it should: an HTML page", id="wrong-answer"),
]


@pytest.mark.parametrize(("error", "signal", "words"), FAULTS)
async def test_while_it_fails_nothing_is_done(error: Exception, signal: str, words: str) -> None:
    async def fail() -> None:
        raise error

    async with world([by_cpu()]) as w:
        await w.tick(0.3)
        w.usage.before = fail
        seen = await w.tick(0.9, 3)
        assert (seen["reason"], seen["series"][0]["signal"], w.rig.replicas("web")) == ("NO_DATA", signal, 4)
        assert words in seen["why"]
        assert len(w.usage.asked) == 4, "once a tick"
        w.usage.before = None
        await w.tick(0.45)
        assert w.rig.replicas("web") == 6


def gone(w: World) -> None:
    for pod in w.pods.owned(WEB) or ():
        w.pods.drop(pod)


def unwatched(w: World) -> None:
    w.pods.synced = False


def unsampled(w: World) -> None:
    w.usage.samples.clear()


def old(w: World) -> None:
    for name, sample in w.usage.samples.items():
        w.usage.samples[name] = sample._replace(at_s=sample.at_s - SAMPLE_MAX_S)


def ahead(w: World) -> None:
    for name, sample in w.usage.samples.items():
        w.usage.samples[name] = sample._replace(at_s=sample.at_s + 2 * SAMPLE_MAX_S)


def starting(w: World) -> None:
    """Every pod is new and not Ready."""
    for pod in w.pods.owned(WEB) or ():
        now_s = w.rig.clock.now()
        w.pods.put(replace(pod, started_s=now_s, created_s=now_s, conditions=(ready(status="False", since_s=now_s),)))
        w.usage.samples["shop", pod.name] = Sample(now_s + 1.0, 10.0, {"app": (0.9, MI)})


def unrequested(w: World) -> None:
    for pod in w.pods.owned(WEB) or ():
        w.pods.put(replace(pod, containers=(replace(pod.containers[0], resources=Resources()),)))


@pytest.mark.parametrize(
    ("spoil", "signal", "words"),
    [
        pytest.param(gone, "EMPTY", "it has no pods", id="no-pods"),
        pytest.param(unwatched, "NOT_ASKED", "its pods are not known: their watch", id="pods-not-known"),
        pytest.param(unsampled, "EMPTY", "none of its 4 pods has a sample of cpu in metrics.k8s.io", id="no-samples"),
        pytest.param(old, "STALE", "the newest sample of its pods in metrics.k8s.io is 160 s old", id="old-samples"),
        pytest.param(ahead, "STALE", "is of 290 s from now: the clocks of its nodes and ours differ", id="samples-of-the-future"),
        pytest.param(starting, "NOT_READY_YET", "none of its 4 pods has a sample of cpu from after its start", id="starting"),
        pytest.param(unrequested, "NAN", "none of its 4 pods requests cpu, so there is no utilisation of it", id="no-requests"),
    ],
)
async def test_what_is_not_known_is_no_load(spoil: Callable[[World], None], signal: str, words: str) -> None:
    async with world([by_cpu()]) as w:
        await w.tick(0.3)
        w.sample(WEB, 0.05)
        spoil(w)
        await w.rig.pass_ticks()
        seen = w.rig.row("web")["decisions"][0]
        assert (seen["reason"], seen["series"][0]["signal"], w.rig.replicas("web")) == ("NO_DATA", signal, 4)
        assert words in seen["why"]
        assert isnan(seen["series"][0]["load"])


async def test_without_a_place_to_ask_it_says_so() -> None:
    pods = MemoryPods(Rig().clock)
    pods.create(WEB, 4, HALF)
    async with running([by_cpu()], 4, rig=Rig(pods=pods)) as rig:
        await rig.pass_ticks(2)
        assert "this service was started without metrics.k8s.io" in rig.row("web")["why"]
        assert rig.replicas("web") == 4


async def test_no_tick_waits_twice_for_an_answer_and_a_late_one_still_serves() -> None:
    release = asyncio.Event()
    async with world([by_cpu()]) as w:
        await w.tick(0.3)
        w.usage.before = hanging(release)

        async def closed() -> tuple[str, str]:
            """A tick, and the time until its observation has closed."""
            w.sample(WEB, 0.45)
            await w.rig.clock.advance(INTERVAL_S)
            series = w.rig.row("web")["series"][0]
            return series["signal"], series["detail"]

        await w.rig.clock.advance(4.0)
        assert await closed() == ("TIMEOUT", "no answer from metrics.k8s.io before the observation closed")
        assert await closed() == ("TIMEOUT", "metrics.k8s.io has not answered an earlier tick's question yet")
        assert (len(w.usage.asked), w.rig.replicas("web")) == (2, 4), "it is not asked again while it is being asked"
        release.set()
        await w.rig.clock.settle()
        release.clear()
        assert await closed() == ("OK", "answered"), "the answer to the first question is there, and the third under way"
        assert w.rig.replicas("web") == 6
        assert [(await closed())[0] for _ in range(2)] == ["TIMEOUT"] * 2
        release.set()
        await w.rig.clock.settle()
        release.clear()
        assert await closed() == ("STALE", "the newest answer of metrics.k8s.io is too old: it is about 45 s ago")


@pytest.mark.parametrize(
    ("namespaces", "cluster_wide", "asked"),
    [
        pytest.param(2, True, ["n0", "n1"], id="few-namespaces"),
        pytest.param(NAMESPACES_MAX + 1, True, [""], id="many-namespaces"),
        pytest.param(NAMESPACES_MAX + 1, False, [f"n{k}" for k in range(NAMESPACES_MAX + 1)], id="many-and-only-in-these"),
    ],
)
async def test_one_question_for_all_workloads_of_a_place(namespaces: int, cluster_wide: bool, asked: list[str]) -> None:  # noqa: FBT001 - a column
    specs: list[WorkloadSpec] = []
    for number in range(namespaces):
        specs += [replace(by_cpu(name), workload=Workload(f"n{number}", name)) for name in ("web", "api")]
    async with world(specs, usage=MemoryUsage(cluster_wide=cluster_wide)) as w:
        for spec in specs:
            w.sample(spec.workload, 0.45)
        await w.rig.pass_ticks()
        assert sorted(w.usage.asked) == asked
        assert {w.rig.cluster.replicas(spec.workload) for spec in specs} == {6}
        w.rig.loop.update(specs[:2])
        w.usage.asked.clear()
        await w.rig.pass_ticks()
        assert w.usage.asked == ["n0"], "who has left is not asked about any more"


async def test_what_is_too_much_at_once_is_asked_for_namespace_by_namespace() -> None:
    specs = [replace(by_cpu("web"), workload=Workload(f"n{number}", "web")) for number in range(NAMESPACES_MAX + 1)]
    async with world(specs) as w:

        async def refuse_all() -> None:
            if w.usage.asked[-1] == "":
                raise AnswerError("the answer is longer than 32 MiB")

        w.usage.before = refuse_all
        for _ in range(2):
            for spec in specs:
                w.sample(spec.workload, 0.45)
            await w.rig.pass_ticks()
        assert sorted(w.usage.asked) == ["", *(f"n{number}" for number in range(NAMESPACES_MAX + 1))]
        assert {w.rig.cluster.replicas(spec.workload) for spec in specs} == {6}


async def test_nobody_is_asked_where_no_policy_wants_it() -> None:
    async with world([build.spec("web", series=(SeriesSpec("requests", Query('load{name="web"}'), 1.0),))]) as w:
        w.rig.loads["web"] = 5.0
        await w.tick()
        assert (w.usage.asked, w.rig.replicas("web")) == ([], 5)


@pytest.mark.parametrize("exact", [pytest.param(False, id="ours"), pytest.param(True, id="exact")])
async def test_hpa_relates_a_ratio_to_the_ready_pods(exact: bool) -> None:  # noqa: FBT001 - a column of the table
    choice = PolicyChoice("hpa", Hpa(), HpaParams(exact=exact))
    series = SeriesSpec("busy", Query("busy"), 0.5, TargetKind.VALUE)
    async with world([replace(by_cpu(series=(series,)), policy=choice)]) as w:
        pods = w.pods.owned(WEB) or ()
        w.pods.put(replace(pods[0], conditions=(ready(status="False"),)))
        w.rig.source.write("busy", {}, w.rig.clock.now(), 1.0)
        decision = await w.tick()
        assert (decision["desired"], w.usage.asked) == (6.0, []), "three of four pods are Ready, at twice the target"


def slow_starters(pods: tuple[Pod, ...], took_s: float) -> list[Pod]:
    """The same pods, each Ready so long after it was made."""
    return [
        replace(
            pod,
            conditions=(ready(since_s=pod.created_s + took_s),),
            containers=tuple(replace(each, running_s=pod.created_s + took_s - 1) for each in pod.containers),
        )
        for pod in pods
    ]


async def test_start_up_times_are_measured_and_shown_and_the_file_has_the_last_word() -> None:
    given, measured = by_cpu("given", startup_s=33.0), by_cpu()
    async with world([measured, given]) as w:
        w.pods.put(*slow_starters(w.pods.owned(WEB) or (), 90.0))
        w.pods.put(*slow_starters(w.pods.owned(given.workload) or (), 90.0))
        await w.tick(0.3, 3)
        assert w.rig.row("web")["decisions"][0]["startup_s"] == 90.0
        assert w.rig.row("given")["decisions"][0]["startup_s"] == 33.0


async def test_a_start_up_time_is_a_minute_until_one_is_known_and_again_for_another_object_of_the_name() -> None:
    async with world([by_cpu()]) as w:
        kept = w.pods.owned(WEB) or ()
        gone(w)
        await w.rig.pass_ticks()
        assert w.rig.row("web")["decisions"][0]["startup_s"] == 60.0
        w.pods.put(*slow_starters(kept, 200.0))
        await w.rig.pass_ticks(3)
        assert w.rig.row("web")["decisions"][0]["startup_s"] == 200.0
        gone(w)
        w.rig.cluster.delete(WEB)
        await w.rig.pass_ticks()
        w.rig.cluster.create(WEB, 4)
        await w.rig.pass_ticks(2)
        assert w.rig.row("web")["decisions"][0]["startup_s"] == 60.0


async def test_without_a_watch_of_pods_a_start_up_time_is_nobodys_guess() -> None:
    async with running([build.spec("web", series=(SeriesSpec("requests", Query('load{name="web"}'), 1.0),))]) as rig:
        await rig.pass_ticks()
        assert isnan(rig.row("web")["decisions"][0]["startup_s"])
