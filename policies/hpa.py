"""The HPA's own replica calculation, from raw loads and pods: the peer to compare with, and the way to move here without any change.

::

    from pods      u = floor(100 x sum(use) / sum(request))  or floor(sum(use) / pods), over the pods that count; ratio = u / target
                   within 1 - down .. 1 + up -> current; else ceil(ratio x pods that count)
                   some missing or unready: the ratio again with these filled in; where it then turns or ends against itself -> current
    averageValue   ratio = load / (target x status replicas);  within tolerance -> status replicas; else ceil(load / target)
    value          ratio = load / target;  within tolerance -> current; else ceil(ratio x Running and Ready pods); from zero ceil(ratio)

As in kubernetes/kubernetes, pkg/controller/podautoscaler (1.37); every quantity is a whole number of thousandths there, and here. The
largest proposal of a workload's metrics wins (``combine``), and one that fails forbids a scale-down (the guard ``noData``).
Stabilisation and rate are the shared guards; their defaults are the HPA's. Tolerance is a parameter, applied to each metric's ratio.

What we mean to do otherwise, and what ``exact: true`` puts back to the HPA's way:

======================  ==================================================  =========================================================
difference              here                                                ``exact``, as the HPA
======================  ==================================================  =========================================================
ownedPods               samples of pods that are not the workload's own     whatever the selector matches counts, also samples of pods
                        say nothing                                         that are no longer listed, where the view has them (the
                                                                            service looks at own pods only)
missingRequest          a container without a request leaves both sums      no proposal
noReadyPod              a ``value`` without a ready pod is no data          ceil(ratio x 0) = 0 replicas
absurdLoad              a load that asks for over 1e9 replicas is no data   asks for max
dryRun                  the shadow count is held against what these pods    a dry run is decided as if the shadow pods were there
                        carry: ratio x counted pods / shadow
activation              zero is left and reached by ``activation``          by the metrics' replicas alone
fromZero                one replica is always allowed from zero             ``Percent`` rules allow none: it stays at zero
foreignZero             a zero that others set after another count is       a zero is the HPA's own until its next write
                        theirs: paused
raisedMin               ``minReplicas`` acts though nothing is known        at its own zero without data it stays
scaleEvents             a rate rule counts every change of its period       a new event displaces one that is older than its own
                                                                            direction's longest period
coverage                under 90 % of pods reporting: no scale-down         not known to it
suddenZero              a load that falls to exactly zero from above two    zero is zero
                        replicas is believed at the third tick
======================  ==================================================  =========================================================

Alike in both: a load that is negative, infinite or not a number is no data, and no count or per cent wraps around at 2^31.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autoscaler.core.behavior import HPA_BEHAVIOR, Behavior
from autoscaler.core.columns import frozen, full
from autoscaler.core.policy import NoState, Pods, Proposal, Traits, View, param
from autoscaler.core.types import Bools, Floats, Ints, MetricType, PodPhase, TargetKind
from policies._hpa_pods import Goal, PerPod, Tolerance, grouped, milli, ready_pods, replicas_of, within

_MOST = 2.0**31 - 1
"""The HPA's counts end here."""

_SINGLE = 1e-4
"""A per cent this close below a whole one is whole: demand is kept in single precision."""


@dataclass(frozen=True)
class HpaParams:
    """What are flags of the HPA's controller, and its tolerance."""

    tolerance_up: Floats = param(0.1, ge=0, doc="a ratio of load to target this far above 1 is left alone")
    tolerance_down: Floats = param(0.1, ge=0, doc="a ratio of load to target this far below 1 is left alone")
    cpu_initialization_s: Floats = param(300.0, ge=0, doc="so long after a pod's start its CPU counts only from samples since it was Ready")
    readiness_delay_s: Floats = param(30.0, ge=0, doc="a pod not Ready since this soon after its start never was: its CPU does not count")
    exact: bool = param(default=False, doc="to the letter, also where we would do better: for comparisons with a real HPA")


class Hpa:
    """``ceil(ratio x pods that count)``, or the current count while the ratio is within tolerance.

    Example:
        Three workloads with five replicas each, of which one should carry 100 requests/s:

        >>> from autoscaler.testing import columns_of, view_of
        >>> policy, params = Hpa(), columns_of([HpaParams()] * 3)
        >>> metric = {"target": [100.0] * 3, "target_kind": [0] * 3, "metric_type": [0] * 3}
        >>> counts = {"current": [5.0] * 3, "observed": [5.0] * 3, "status_replicas": [5.0] * 3}
        >>> view = view_of([[5.3, 5.61, 3.9]], load=[530.0, 561.0, 390.0], **counts, **metric)
        >>> state, proposal = policy(view, params, policy.init(params, 3))
        >>> proposal.replicas.tolist()
        [5.0, 6.0, 4.0]
    """

    Params = HpaParams
    traits = Traits(behavior=HPA_BEHAVIOR.with_tolerance(0.0), pods=True, saturation=False, forgets_s=3600.0)
    breaks = frozenset({"monotone"})  # within tolerance it is the current count, which may be less than what less load asks for

    def guards(self, params: HpaParams, behavior: Behavior) -> Behavior:
        """The guards, to the letter if the policy is."""
        return replace(behavior, exact=params.exact)

    def init(self, params: HpaParams, n: int) -> NoState:  # noqa: ARG002 - the contract's signature
        """Nothing is remembered."""
        return NoState()

    def __call__(self, view: View, params: HpaParams, state: NoState) -> tuple[NoState, Proposal]:
        """One tick; notes: the ratio, and how many pods counted, were unready, or had no sample."""
        with np.errstate(divide="ignore", invalid="ignore"):
            inputs = _inputs(view, params)
            found = _from_pods(inputs) if inputs.from_pods.any() else None
            ratio, replicas = _nothing(inputs.load.size) if found is None else (found.ratio, found.replicas)
            for chosen, formula in ((inputs.average, _average), (inputs.value, _value), (inputs.without_pods, _without_pods)):
                if chosen.any():
                    other_ratio, other = formula(inputs)
                    ratio, replicas = np.where(chosen, other_ratio, ratio), np.where(chosen, other, replicas)
        outside = (view.current > 0) & ((view.current < view.min) | (view.current > view.max))
        replicas = np.where(outside, np.clip(view.current, view.min, view.max), np.minimum(replicas, _MOST))
        # The bits of demand play no part, but whether one is known does.
        known = ~np.isnan(inputs.load) & (params.exact | ~np.isnan(view.demand[-1]))
        notes = {"ratio": ratio}
        if found is not None:
            counts = (("counted", found.counted), ("unready", found.unready), ("missing", found.missing))
            notes |= {name: np.where(inputs.from_pods, count, np.nan) for name, count in counts}
        return state, Proposal(
            np.where(known, replicas, np.nan), notes={name: np.where(known, note, np.nan) for name, note in notes.items()}
        )


@dataclass(frozen=True, slots=True)
class _Inputs:
    """The view in the HPA's terms ``[n]``: loads and targets in thousandths, per cent for a utilisation; by which formula each goes.

    ``ready``: Running and Ready pods; ``listed``: pods at all.
    """

    view: View
    params: HpaParams
    pods: Pods
    load: Floats
    target: Floats
    utilization: Bools
    cpu: Bools
    observed: Floats
    status: Floats
    ready: Floats
    listed: Ints
    average: Bools
    value: Bools
    from_pods: Bools
    without_pods: Bools

    @property
    def tolerance(self) -> Tolerance:
        """How far the ratio may be above and below 1."""
        return self.params.tolerance_up, self.params.tolerance_down

    def stretch(self, pods: Floats) -> Floats:
        """What a ratio of these ``pods`` is to be held against in a dry run, whose count they do not follow; else 1."""
        shadow = ~np.isnan(self.observed) & (self.observed != self.view.current) & (not self.params.exact)
        return np.where(shadow, pods / self.view.current, 1.0)


def _inputs(view: View, params: HpaParams) -> _Inputs:
    load, target, observed, status = view.load, view.target, view.observed, view.status_replicas
    kind, metric = view.target_kind, view.metric_type
    if load is None or target is None or kind is None or metric is None or observed is None or status is None:
        message = "the view lacks load, target, target_kind, metric_type, observed or status_replicas: it was made without traits.pods"
        raise ValueError(message)
    pods = _listed_only(view.pods) if view.pods is not None and not params.exact else view.pods or _no_pods(load.size)
    ready, listed = ready_pods(pods) if pods.use.size else np.zeros((2, load.size), np.int64)
    seen = np.where(listed > 0, ready, np.nan if params.exact else view.ready)
    utilization, value = kind == TargetKind.UTILIZATION.value, kind == TargetKind.VALUE.value
    average = ~utilization & ~value & (metric == MetricType.EXTERNAL.value)
    from_pods = ~average & ~value
    return _Inputs(
        view=view,
        params=params,
        pods=pods,
        load=milli(load),
        target=np.where(utilization, np.rint(100 * target), milli(target)),
        utilization=utilization,
        cpu=metric == MetricType.CPU.value,
        observed=observed,
        status=status if params.exact else np.where(np.isnan(status), view.current, status),
        ready=seen,
        listed=listed,
        average=average,
        value=value,
        from_pods=from_pods,
        without_pods=from_pods & (listed == 0) & (not params.exact),
    )


def _nothing(n: int) -> tuple[Floats, Floats]:
    """Ratio and replicas of series that no formula has been applied to."""
    return full(n, np.nan), full(n, np.nan)


def _no_pods(n: int) -> Pods:
    """Pods of series of which nobody asked for pods."""
    nothing, codes = frozen(full(0, np.nan)), frozen(np.zeros(0, np.int8))
    return Pods(frozen(np.zeros(n + 1, np.int64)), nothing, nothing, codes, codes, nothing, nothing, nothing, nothing)


def _listed_only(pods: Pods) -> Pods:
    """The pods, with no sample from any that is not there."""
    return replace(pods, use=np.where(pods.phase == PodPhase.GONE.value, np.nan, pods.use))


def _average(inputs: _Inputs) -> tuple[Floats, Floats]:
    """Ratio and replicas by ``averageValue`` of one load for the whole workload."""
    ratio = inputs.load / (inputs.target * inputs.status)
    return ratio, np.where(within(ratio, inputs.tolerance), inputs.status, np.ceil(inputs.load / inputs.target))


def _value(inputs: _Inputs) -> tuple[Floats, Floats]:
    """Ratio and replicas by ``value``."""
    ratio, current = inputs.load / inputs.target, inputs.view.current
    asked = np.ceil(ratio * inputs.ready)
    if not inputs.params.exact:
        asked = np.where(inputs.ready > 0, asked, np.nan)
    stays = within(ratio * inputs.stretch(inputs.ready), inputs.tolerance)
    return ratio, np.where(current == 0, np.ceil(ratio), np.where(stays, current, asked))


def _from_pods(inputs: _Inputs) -> PerPod:
    """By ``utilization`` or ``averageValue`` of the pods' own use."""
    pods, params = inputs.pods, inputs.params
    owner = np.repeat(np.arange(inputs.load.size), np.diff(pods.offsets))
    groups = grouped(pods, inputs.cpu[owner], inputs.view.at_s, params.cpu_initialization_s[owner], params.readiness_delay_s[owner])
    goal = Goal(inputs.target, inputs.utilization, inputs.tolerance, inputs.view.current)
    return replicas_of(pods, groups, goal, inputs.stretch, lenient=not params.exact)


def _without_pods(inputs: _Inputs) -> tuple[Floats, Floats]:
    """The same where only the sum over all ready pods is known, as in a simulation."""
    pods = np.where(inputs.ready > 0, inputs.ready, np.nan)
    demand = inputs.view.demand[-1].astype(np.float64)
    per_cent = np.floor(inputs.target * demand / pods + _SINGLE)
    ratio = np.where(inputs.utilization, per_cent, np.floor(inputs.load / pods)) / inputs.target
    stays = within(ratio * inputs.stretch(pods), inputs.tolerance)
    return ratio, np.where(stays, inputs.view.current, np.ceil(ratio * pods))
