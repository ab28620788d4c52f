"""The composition root: builds one adapter per port, starts every task, and stops them in the right order.

A first SIGTERM or SIGINT stops deciding, lets writes under way finish and ends with 0; a second one ends the process at once.
SIGHUP reads the policies again.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import platform
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from autoscaler import __version__, metrics
from autoscaler.clock import Clock, SystemClock
from autoscaler.core.health.breaker import LIMITS
from autoscaler.core.health.caps import Caps
from autoscaler.core.health.report import Report
from autoscaler.core.types import Mode
from autoscaler.errors import ConfigError
from autoscaler.loops.board import Board
from autoscaler.loops.delivery import Sink
from autoscaler.loops.group import Surroundings
from autoscaler.loops.health import Care, HealthLoop, Ward
from autoscaler.loops.reports import Reports, Telling
from autoscaler.loops.scaling import ScalingLoop
from autoscaler.loops.shards import SHARDS
from autoscaler.loops.state import StateKeeper
from autoscaler.loops.targets import Targets
from autoscaler.loops.verdicts import Verdicts
from autoscaler.ports import (
    Access,
    Cluster,
    EvidenceSource,
    MetricSource,
    Notifier,
    PodActions,
    PodWatch,
    PolicySet,
    PolicySource,
    Recorder,
    ResourceMetrics,
    StateStore,
)

if TYPE_CHECKING:
    from autoscaler.adapters.telemetry import PrometheusRecorder
    from autoscaler.settings import Settings

log = logging.getLogger(__name__)

FINISH_S = 6.0
"""Writes under way get this long at the end, within the ten seconds that the process may take."""

SAVE_S = 2.5
"""And then the state, to be saved a last time, while those are told who still wait for a report."""

KILLED = 137


@dataclass(frozen=True, slots=True)
class Parts:
    """One adapter per port, and where the service listens (``port`` 0: any free one)."""

    source: MetricSource
    cluster: Cluster
    policies: PolicySource
    recorder: PrometheusRecorder
    clock: Clock
    mode: Mode = Mode.ACTIVE
    host: str = "127.0.0.1"
    port: int = 8080
    write_concurrency: int = 16
    state: StateStore | None = None
    pods: PodWatch | None = None
    usage: ResourceMetrics | None = None
    actions: PodActions | None = None
    care: Care | None = field(default_factory=Care)
    """How pods' health is cared for; None: it is not."""
    telling: Telling | None = None
    """Through what people are told of incidents; None: nobody is."""
    access: Access | None = None
    beside: tuple[Callable[[], Coroutine[Any, Any, None]], ...] = field(default=())
    """Further tasks of the embedding program, cancelled with the rest."""
    on_terminal: bool = False
    """A hang-up is the terminal's end and ends the program, where a service reads its policies again."""


def check_policies_package() -> None:
    """Raise ConfigError unless the package ``policies`` is the one that belongs to this ``autoscaler``.

    Both names are short, and a stray folder on the path must not decide how many replicas somebody has.
    """
    found = importlib.util.find_spec("policies")
    here = Path(__file__).resolve().parent.parent
    there = Path(found.origin).resolve().parent.parent if found is not None and found.origin else None
    if there != here:
        raise ConfigError(
            f"the package `policies` is found in {there or 'no place'}, but `autoscaler` is in {here}: "
            "they are installed together, so remove the other one from the path"
        )


@asynccontextmanager
async def build(settings: Settings) -> AsyncIterator[Parts]:
    """The real adapters, each imported by its own factory, and closed at the end. Raises ConfigError."""
    check_policies_package()
    recorder, clock = _recorder(), SystemClock()
    async with AsyncExitStack() as stack:
        kubernetes = await stack.enter_async_context(_kubernetes(settings, recorder, clock))
        yield Parts(
            source=await stack.enter_async_context(_metric_source(settings, recorder)),
            cluster=kubernetes.cluster,
            policies=_policy_source(settings, clock),
            recorder=recorder,
            clock=clock,
            mode=settings.service_mode,
            host=settings.listen_host,
            port=settings.listen_port,
            write_concurrency=settings.write_concurrency,
            state=_state_store(settings, kubernetes.config_maps),
            pods=kubernetes.pods,
            usage=kubernetes.usage,
            actions=kubernetes.actions,
            care=_care(settings, kubernetes.namespace),
            telling=_telling(settings, kubernetes, recorder, clock),
            access=kubernetes.access,
        )


def _recorder() -> PrometheusRecorder:
    from autoscaler.adapters.telemetry import PrometheusRecorder

    return PrometheusRecorder()


@asynccontextmanager
async def _metric_source(settings: Settings, recorder: Recorder) -> AsyncIterator[MetricSource]:
    from autoscaler.adapters.prometheus import Endpoint, PrometheusSource

    endpoints = {}
    for name, fields in settings.endpoints().items():
        try:
            endpoints[name] = Endpoint(**fields)
        except ConfigError as error:
            raise ConfigError(f"prometheus.{name}: {error}") from error
    source = PrometheusSource(endpoints, recorder)
    try:
        yield source
    finally:
        await source.close()


@dataclass(frozen=True, slots=True)
class _Kubernetes:
    """What goes through one client of one cluster; ``namespace`` is our own."""

    namespace: str
    cluster: Cluster
    config_maps: StateStore
    pods: PodWatch
    usage: ResourceMetrics
    actions: PodActions
    evidence: EvidenceSource
    events: Notifier
    access: Access


@asynccontextmanager
async def _kubernetes(settings: Settings, recorder: Recorder, clock: Clock) -> AsyncIterator[_Kubernetes]:
    from autoscaler.adapters.kubernetes.access import LogAccess
    from autoscaler.adapters.kubernetes.client import AT_ONCE, Client
    from autoscaler.adapters.kubernetes.events import OwnerEvents
    from autoscaler.adapters.kubernetes.evidence import KubernetesEvidence
    from autoscaler.adapters.kubernetes.login import find_login
    from autoscaler.adapters.kubernetes.pod_actions import KubernetesPodActions
    from autoscaler.adapters.kubernetes.pods import KubernetesPods
    from autoscaler.adapters.kubernetes.reflector import Around
    from autoscaler.adapters.kubernetes.resource_metrics import KubernetesResourceMetrics
    from autoscaler.adapters.kubernetes.state import ConfigMapStore
    from autoscaler.adapters.kubernetes.targets import KubernetesCluster

    access = settings.access()
    login = find_login(access.kubeconfig, access.context)
    client = await Client.connect(login, max(AT_ONCE, settings.write_concurrency))
    try:
        around = Around(client, clock, recorder, Random())  # noqa: S311 - jitter, not secrets
        namespaces = access.namespaces or None
        yield _Kubernetes(
            namespace=login.namespace(),
            cluster=KubernetesCluster(around, namespaces),
            config_maps=ConfigMapStore(client, login.namespace(), SHARDS),
            pods=KubernetesPods(around, namespaces),
            usage=KubernetesResourceMetrics(client, recorder, namespaces),
            actions=KubernetesPodActions(client),
            evidence=KubernetesEvidence(client, clock),
            events=OwnerEvents(client, (login.namespace(), platform.node())),
            access=LogAccess(client, clock),
        )
    finally:
        await client.close()


def _state_store(settings: Settings, config_maps: StateStore) -> StateStore | None:
    from autoscaler.adapters.files import FileStateStore
    from autoscaler.settings import NO_STATE, STATE_IN_KUBERNETES

    if settings.state == STATE_IN_KUBERNETES:
        return config_maps
    return None if settings.state == NO_STATE else FileStateStore(Path(settings.state))


def _care(settings: Settings, namespace: str) -> Care | None:
    """How health is cared for; in a pod, the host's name is the pod's."""
    if not settings.health:
        return None
    limits = replace(LIMITS, cluster_share=settings.breaker_share, workload_share=settings.breaker_workload_share)
    own = namespace, platform.node()
    return Care(limits, Caps(cluster_s=settings.remedies_every_s), settings.remedies == "dryRun", own)


def _telling(settings: Settings, kubernetes: _Kubernetes, recorder: Recorder, clock: Clock) -> Telling:
    from autoscaler.adapters.notify import notifier, pace_s, remind_s
    from autoscaler.endpoints import EVENTS_SINK

    sinks = [Sink(name, notifier(name, sink, clock), pace_s(sink), remind_s(sink)) for name, sink in settings.sinks.items()]
    random = Random()  # noqa: S311 - jitter, not secrets
    return Telling(clock, recorder, random, kubernetes.evidence, Sink(EVENTS_SINK, kubernetes.events), sinks, settings.cluster)


def _policy_source(settings: Settings, clock: Clock) -> PolicySource:
    from autoscaler.policyfile.reload import DirectoryPolicySource

    return DirectoryPolicySource(settings.policies, clock, settings.sink_names())


class Service:
    """Everything that runs, around one scaling loop."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._keeper = StateKeeper(parts.state, parts.clock, parts.recorder)
        free, memories = asyncio.Semaphore(parts.write_concurrency), self._keeper.memories
        ports = (parts.source, parts.cluster, parts.clock, parts.recorder)
        around = Surroundings(*ports, free, parts.mode, memories, pods=parts.pods, usage=parts.usage)
        self._loop = ScalingLoop(around)
        self._keeper.keep(self._loop.keep)
        self._reports = None if parts.telling is None else Reports(parts.telling, self._standing)
        self._health = self._health_loop(around.verdicts)
        self.board = Board(self._loop, parts.cluster, parts.recorder, self._health)
        self._targets = Targets(parts.cluster, parts.clock, self._loop.update)
        self._stop = asyncio.Event()
        parts.recorder.set(metrics.BUILD_INFO, __version__, value=1)

    def _health_loop(self, verdicts: Verdicts) -> HealthLoop | None:
        parts = self._parts
        if parts.pods is None or parts.care is None:
            return None
        dry_run = parts.care.dry_run or parts.mode is not Mode.ACTIVE
        ward = Ward(
            parts.pods,
            parts.clock,
            parts.recorder,
            replace(parts.care, dry_run=dry_run),
            parts.actions,
            parts.state,
            verdicts,
            scale_ups=self._loop.scale_ups,
        )
        if self._reports is not None:
            ward = replace(ward, told=self._reports.take, evidence=self._reports.evidence)
        return HealthLoop(ward)

    def _standing(self) -> tuple[Report, ...]:
        return () if self._health is None else self._health.standing()

    def stop(self) -> None:
        """Ask the service to end."""
        self._stop.set()

    async def run(self, started: Callable[[str], None] = lambda _: None) -> None:
        """Run until :meth:`stop` or a signal; ``started`` is told the address once it answers.

        Raises ConfigError if the policies are wrong at the start, or the port is taken.
        """
        from autoscaler.adapters.http import serve

        parts = self._parts
        self._listen_for_signals()
        self._use(await parts.policies.load())
        async with serve(self.board, parts.recorder, parts.host, parts.port, parts.access) as address:
            log.info("listening on %s", address, extra={"fields": {"address": address}})
            started(address)
            loops = [self._keeper.run(), self._loop.run(), self._targets.run(), self._follow_policies()]
            watches = [parts.cluster.run(), *([parts.pods.run()] if parts.pods is not None else [])]
            health = [] if self._health is None else [self._health.run()]
            telling = [] if self._reports is None else [self._reports.run()]
            work = [*watches, *loops, *health, *telling, *(task() for task in parts.beside)]
            running = asyncio.ensure_future(_together(work))
            stopping = asyncio.ensure_future(self._stop.wait())
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            await self._end(running)

    async def _end(self, running: asyncio.Future[None]) -> None:
        """Stop deciding first, then let writes finish while the cluster's connection still stands, save, then stop the rest."""
        await self._loop.close(FINISH_S)
        saves = [self._keeper.close(SAVE_S), *([] if self._health is None else [self._health.close(SAVE_S)])]
        await asyncio.gather(*saves, *([] if self._reports is None else [self._reports.close(SAVE_S)]))
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    def _listen_for_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def end(number: int) -> None:
            if self._stop.is_set():
                log.warning("a second %s: ending at once", signal.Signals(number).name)
                os._exit(KILLED)
            log.info("%s: finishing writes under way, then ending", signal.Signals(number).name)
            self._stop.set()

        ends = [signal.SIGTERM, signal.SIGINT]
        if self._parts.on_terminal:
            ends.append(signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, self._parts.policies.poke)
        for number in ends:
            loop.add_signal_handler(number, end, number)

    def _use(self, policies: PolicySet) -> None:
        for warning in policies.warnings:
            log.warning("%s", warning)
        self._targets.use(policies)
        if self._health is not None:
            self._health.use(policies.health)
        self.board.loaded, self.board.config_error = True, ""
        self._parts.recorder.set(metrics.CONFIG_RELOAD_OK, value=1)
        self._parts.recorder.add(metrics.CONFIG_RELOADS, "ok")
        log.info("policies read; workloads: %d", len(policies.specs), extra={"fields": {"workloads": len(policies.specs)}})

    async def _follow_policies(self) -> None:
        """Take each good set of policies; a bad one changes nothing but what is said."""
        async for change in self._parts.policies.changes():
            if isinstance(change, ConfigError):
                self.board.config_error = str(change).split("\n", maxsplit=1)[0]
                self._parts.recorder.set(metrics.CONFIG_RELOAD_OK, value=0)
                self._parts.recorder.add(metrics.CONFIG_RELOADS, "refused")
                log.error("the new policies are not used, the last good ones stay:\n%s", change)
            else:
                self._use(change)


async def _together(work: list[Coroutine[Any, Any, None]]) -> None:
    """Run them all; the first failure ends the others."""
    async with asyncio.TaskGroup() as group:
        for coroutine in work:
            group.create_task(coroutine)
