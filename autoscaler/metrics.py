"""The service's own metrics: every name with its meaning and what to do about it, in one list.

Pure data: loops and adapters name metrics by these constants, the telemetry adapter registers :data:`METRICS`. Prometheus'
conventions: base units, ``_total`` for counters; never a pod's name as a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What Prometheus calls the type."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; ``advice`` says what an operator does when it looks wrong."""

    name: str
    kind: Kind
    meaning: str
    advice: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_WORKLOAD = ("namespace", "kind", "name")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

BUILD_INFO = Metric(
    "autoscaler_build_info", Kind.GAUGE, "1, with the version as a label.", "Compare across replicas after an upgrade.", ("version",)
)
WORKLOADS = Metric("autoscaler_workloads", Kind.GAUGE, "Workloads with a policy.", "0 means that no policy file was found.", ("interval",))
CURRENT_REPLICAS = Metric(
    "autoscaler_current_replicas",
    Kind.GAUGE,
    "spec.replicas as last seen.",
    "Compare with autoscaler_desired_replicas; a lasting gap has its cause in the workload's last decision.",
    _WORKLOAD,
)
DESIRED_REPLICAS = Metric(
    "autoscaler_desired_replicas",
    Kind.GAUGE,
    "Replicas of the last decision, after all guards (in a dry run: what would be set).",
    "See /api/v1/workloads/NAMESPACE/NAME for every stage.",
    _WORKLOAD,
)
DEMAND = Metric(
    "autoscaler_demand_replicas",
    Kind.GAUGE,
    "Load divided by what one replica should carry; the largest of the workload's metrics. NaN: no data.",
    "NaN for long: read the workload's series in /api/v1/workloads.",
    _WORKLOAD,
)
DECISIONS = Metric(
    "autoscaler_decisions_total",
    Kind.COUNTER,
    "Decisions by policy and by the last reason that changed or held the count.",
    "A growing NO_DATA or TARGET_… share: see that workload's last decision.",
    ("policy", "reason"),
)
SERIES_WITHOUT_DATA = Metric(
    "autoscaler_series_without_data",
    Kind.GAUGE,
    "Series that had no usable value at the last tick, by cause.",
    "The cause says where to look: the query (refused, empty, many_series) or the source (timeout, unreachable).",
    ("interval", "cause"),
)
POLICY_FAULTS = Metric(
    "autoscaler_policy_faults_total",
    Kind.COUNTER,
    "Calls of a policy that raised or returned nonsense; its workloads held.",
    "The log has the sentence; `autoscaler.testing` has the conformance suite for your own policies.",
    ("policy",),
)
WRITES = Metric(
    "autoscaler_writes_total",
    Kind.COUNTER,
    "Writes of a replica count by outcome: ok, stale (seen again at the next tick), refused, failed.",
    "refused: give the service account patch on the scale subresource; stale all the time: somebody else writes too.",
    ("outcome",),
)
TICK_SECONDS = Metric(
    "autoscaler_tick_duration_seconds",
    Kind.HISTOGRAM,
    "Time of one tick from its start to the end of its last write.",
    "Near the interval: the source is slow (see autoscaler_query_duration_seconds) or the CPU limit is too low.",
    ("interval",),
    _SECONDS,
)
DECIDE_SECONDS = Metric(
    "autoscaler_decide_duration_seconds",
    Kind.HISTOGRAM,
    "CPU-bound part of a tick: history and decide.",
    "Grows with workloads and pods; above a second, give the pod more CPU.",
    ("interval",),
    _SECONDS,
)
TICKS_SKIPPED = Metric(
    "autoscaler_ticks_skipped_total",
    Kind.COUNTER,
    "Ticks that could not start in time because the one before still ran.",
    "Any steady growth: as for autoscaler_tick_duration_seconds.",
    ("interval",),
)
QUERY_SECONDS = Metric(
    "autoscaler_query_duration_seconds",
    Kind.HISTOGRAM,
    "Time that one query to a metric source took, by outcome.",
    "Slow queries: aggregate in PromQL, use recording rules.",
    ("endpoint", "outcome"),
    _SECONDS,
)
QUERY_THREADS_STUCK = Metric(
    "autoscaler_query_threads_stuck",
    Kind.GAUGE,
    "Threads that hang in a query whose deadline has passed; at 4 nothing more is asked of the endpoint until one lets go.",
    "Not 0 for long: the endpoint's name does not resolve, or something swallows its connections; restart the service if it stays.",
    ("endpoint",),
)
BACKFILLS = Metric(
    "autoscaler_backfills_total",
    Kind.COUNTER,
    "Ranges of past load that were asked for, at start and after outages, by outcome: ok, failed (tried again), refused.",
    "failed or refused: until a policy's window has filled by itself, it proposes nothing. Make the query cheaper over a range.",
    ("outcome",),
)
WARM_UPS = Metric(
    "autoscaler_warm_ups_total",
    Kind.COUNTER,
    "Series whose policy was to be stepped over their past before it starts, by outcome: ok, unknown (no past), refused, failed.",
    "refused or failed: the policy starts cold, as its notes say, and warms up by itself. Make the query cheaper over a range.",
    ("outcome",),
)
WATCH_RESTARTS = Metric(
    "autoscaler_watch_restarts_total",
    Kind.COUNTER,
    "Watches that had to be opened again, by resource and cause.",
    "Many 410 or reset: the API server is overloaded or a proxy cuts long connections.",
    ("resource", "cause"),
)
WATCH_AGE = Metric(
    "autoscaler_watch_age_seconds",
    Kind.GAUGE,
    "Time since a watch last proved that it is alive (event, bookmark or list).",
    "Above two minutes its targets are held as stale; see the log for the API server's answer.",
    ("resource",),
)
CONFIG_RELOAD_OK = Metric(
    "autoscaler_config_last_reload_successful",
    Kind.GAUGE,
    "1 if the policies that were read last are in use, 0 if they were refused and older ones stay.",
    "0: run `autoscaler validate` on the directory; /readyz has the first mistake.",
)
CONFIG_RELOADS = Metric(
    "autoscaler_config_reloads_total", Kind.COUNTER, "Times that policies were read, by outcome.", "See the gauge.", ("outcome",)
)

STATE_WRITES = Metric(
    "autoscaler_state_writes_total",
    Kind.COUNTER,
    "Shards of state that were to be saved, by outcome: ok, failed.",
    "failed: the log says why; meanwhile a restart would hold scale-downs for a window.",
    ("outcome",),
)
STATE_BYTES = Metric(
    "autoscaler_state_bytes",
    Kind.GAUGE,
    "Size of the saved state, all shards together.",
    "A shard has 512 KiB at most; the log says which workloads had no room.",
)
SHADOW_DIFFERENCE = Metric(
    "autoscaler_shadow_difference",
    Kind.GAUGE,
    "In a dry run: replicas that would be set, less those that the HPA or ScaledObject of the same target wants (without one: has).",
    "What the switch to active would change; see both counts in /api/v1/workloads.",
    _WORKLOAD,
)

FORECAST = Metric(
    "autoscaler_forecast_demand_replicas",
    Kind.GAUGE,
    "Demand that the policy expects until a replica asked for now would serve; the largest of the workload's metrics. NaN: it has none.",
    "Compare with autoscaler_demand_replicas a start-up time later.",
    _WORKLOAD,
)
FORECAST_BIAS = Metric(
    "autoscaler_forecast_bias_ratio",
    Kind.GAUGE,
    "Mean of forecast less outcome over the last day, as a share of demand: above 0 it expects too much. Each metric of a workload.",
    "Far from 0 for days: the metric lags more than metricLag says, or is saturated for long without a saturation query.",
    (*_WORKLOAD, "metric"),
)
FORECAST_HITS = Metric(
    "autoscaler_forecast_hit_ratio",
    Kind.GAUGE,
    "Share of the last day in which what had been asked for in time could carry the demand. Each metric of a workload.",
    "Compare with 1 - risk: lower for long means more late requests than allowed; raise minReplicas or lower risk, and look at the load.",
    (*_WORKLOAD, "metric"),
)

INCIDENTS = Metric(
    "autoscaler_incidents",
    Kind.GAUGE,
    "1 for each open incident of a workload that a HealthPolicy selects: pending, firing, or flapping (it keeps coming back).",
    "/api/v1/incidents has the pods, the reason, and what was done or why not; the cause's row in docs/health.md says what helps.",
    (*_WORKLOAD, "container", "cause", "phase"),
)
WATCHED_PODS = Metric(
    "autoscaler_health_pods",
    Kind.GAUGE,
    "Pods that the last pass of the health loop looked at.",
    "0 where there are pods: the service may not list them; its log says which right is missing.",
)
HEALTH_PASS_SECONDS = Metric(
    "autoscaler_health_pass_duration_seconds",
    Kind.HISTOGRAM,
    "Time of one pass of the health loop: every pod that changed, or may have by time, is judged.",
    "Above a second for long: more CPU, or fewer namespaces for one service.",
    (),
    _SECONDS,
)
HEALTH_LATENCY_SECONDS = Metric(
    "autoscaler_health_latency_seconds",
    Kind.HISTOGRAM,
    "Time from the watch's first news until a pass has taken it in.",
    "Above two seconds: as for autoscaler_health_pass_duration_seconds.",
    (),
    _SECONDS,
)
HEALTH_PASSES_FAILED = Metric(
    "autoscaler_health_passes_failed_total",
    Kind.COUNTER,
    "Passes of the health loop that failed; what was known before stays.",
    "Any: a fault of this service. Its log has a traceback; please report it.",
)
HEALTH_AGE = Metric(
    "autoscaler_health_age_seconds",
    Kind.GAUGE,
    "Age of the last pass from which something could be concluded; before the first, the time since the start.",
    "Above a minute: a watch is not current (see autoscaler_watch_age_seconds); incidents stand still, and nothing is removed.",
)
REMEDIES = Metric(
    "autoscaler_remedies_total",
    Kind.COUNTER,
    "Remedies by cause, by outcome (done, would: in a dry run, refused, failed), and where refused by reason.",
    "failed: the API server's answer is in the log; refused for ever: the reason says which condition to change, if at all.",
    ("cause", "outcome", "reason"),
)
BREAKER_OPEN = Metric(
    "autoscaler_breaker_open",
    Kind.GAUGE,
    "Open breakers: 1 for the cluster while much fails at once, and for workloads how many of them have half their pods ill.",
    "cluster 1: look for what the failing pods share (a node, an image, a dependency); nothing is removed until it is calm again.",
    ("scope",),
)

NOTIFICATIONS = Metric(
    "autoscaler_notifications_total",
    Kind.COUNTER,
    "Reports of incidents by sink and outcome: ok, again (it will be tried once more), dropped.",
    "again, and never ok: the log has the sink's own words; people are not told there meanwhile.",
    ("sink", "outcome"),
)
NOTIFICATION_DROPS = Metric(
    "autoscaler_notifications_dropped_total",
    Kind.COUNTER,
    "Reports that a sink never got: refused, expired (hours of failures), full (the oldest of a full queue), superseded (by a newer "
    "report of the same incident), shutdown.",
    "refused: read the log, the sink's settings are wrong; full: the sink is down in a storm, look at /api/v1/incidents instead.",
    ("sink", "cause"),
)
NOTIFICATION_QUEUE = Metric(
    "autoscaler_notification_queue",
    Kind.GAUGE,
    "Reports that wait for a sink.",
    "Not 0 for long: as for again in autoscaler_notifications_total.",
    ("sink",),
)
EVIDENCE = Metric(
    "autoscaler_evidence_total",
    Kind.COUNTER,
    "Times that evidence was gathered for an incident: whole, partial, none (too slow, or too many incidents at once).",
    "partial: the report says what is missing and which right it needs (pods/log, events, controllerrevisions).",
    ("outcome",),
)

METRICS: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
