"""What every scaling policy must keep, ours and yours, as a suite to run on it.

One call tells everything that is wrong, a sentence for each property::

    from autoscaler.testing import check_policy

    def test_peak() -> None:
        check_policy(Peak)

One test for each property::

    @pytest.mark.parametrize("name", PROPERTIES)
    def test_peak(name: str) -> None:
        check_policy(Peak, only=name)

Some properties are what is usual rather than what the service relies on: ``MAY_BREAK``. A policy that means to break one says so in a
class attribute, ``breaks = frozenset({"monotone"})``, and is then not held to it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from autoscaler.core.columns import taken
from autoscaler.core.policy import Parameters, Policy, traits_of, walled
from autoscaler.core.types import Ints
from autoscaler.testing.policies.declarations import MAY_BREAK, PROPERTIES, undeclared
from autoscaler.testing.policies.parameters import parameter_rows
from autoscaler.testing.policies.runs import Case, run, run_and_compare, run_with_newcomers, state_fault
from autoscaler.testing.policies.scenarios import SERIES, freed, raised, scenarios, silenced

Check: TypeAlias = Callable[[Case], str]
"""What is wrong with a policy in one case, or an empty text."""

_ALONE = 5
"""How many series of a case are also run alone: others in each case."""


def check_policy(policy: Policy | type[Policy], params: Parameters = None, *, only: str | None = None, seed: int = 0) -> None:
    """Raise AssertionError with a sentence for each property that the policy breaks.

    ``params``: scalar parameters to try instead of the defaults and of others within the declared bounds; ``only``: the one property to
    check, a name of ``PROPERTIES`` (ValueError if it is none). What the policy's ``init`` or ``history_s`` raises goes through.
    """
    if only is not None and only not in PROPERTIES:
        raise ValueError(f"there is no property {only!r}; there are {', '.join(PROPERTIES)}")
    subject: Policy = policy() if isinstance(policy, type) else policy
    failures = broken_properties(subject, params, names=PROPERTIES if only is None else (only,), seed=seed)
    if failures:
        raise AssertionError(told(subject, failures))


def told(policy: Policy, failures: Mapping[str, str]) -> str:
    """What :func:`broken_properties` found, for people to read."""
    lines = [f"{type(policy).__name__} breaks {len(failures)} of {len(PROPERTIES)} properties of a policy:"]
    for name, failure in failures.items():
        lines += [f"- {name}: {PROPERTIES[name]}", f"  {failure}"]
        if name in MAY_BREAK:
            lines.append(f'  If it means to: breaks = frozenset({{"{name}"}}) in the class.')
    return "\n".join(lines)


def broken_properties(policy: Policy, params: Parameters = None, *, names: Container[str] = PROPERTIES, seed: int = 0) -> dict[str, str]:
    """The properties that the policy breaks, each with the first instance found; arguments as in :func:`check_policy`.

    Of a policy that cannot be called nothing else can be said, so that is told whatever was asked for.
    """
    fault = undeclared(policy)
    if fault:
        return {"declarations": fault}
    excused = getattr(policy, "breaks", ())
    failures: dict[str, str] = {}
    for case in _cases(policy, params, seed):
        uncallable = _uncallable(case)
        failures |= uncallable
        if uncallable:
            break
        for name, check in CHECKS.items():
            if name in names and name not in excused and name not in failures:
                failure = check(case)
                failures |= {name: f"{failure} ({case})"} if failure else {}
    return {name: failures[name] for name in PROPERTIES if name in failures}


def _uncallable(case: Case) -> dict[str, str]:
    """Why the policy cannot be called as the service calls it, by property."""
    fault = _state_fault(case)
    if fault:
        return {"state": f"{fault} ({case})"}
    if case.base.fault:
        return {"inputs" if "read-only" in case.base.fault else "answers": f"{case.base.fault} ({case})"}
    return {}


def _cases(policy: Policy, params: Parameters, seed: int) -> Iterator[Case]:
    sets = parameter_rows(policy.Params(), getattr(policy, "check", None), SERIES, seed) if params is None else ([params] * SERIES,)
    for number, rows in enumerate(sets):
        for scenario in scenarios(policy, rows, traits_of(policy), seed + number):
            yield Case(policy, tuple(rows), scenario, seed + number)


def _state_fault(case: Case) -> str:
    """What is wrong with the state that ``init`` makes, for no series and for as many as there are, or that a call returns."""
    nobody = taken(case.params, np.zeros(0, np.int64))
    empty, fault = walled(case.policy, partial(case.policy.init, nobody, 0))
    if fault or (fault := state_fault(empty, 0)):
        return f"init of no series at all: {fault}"
    fresh, fault = walled(case.policy, partial(case.policy.init, case.params, case.scenario.n))
    if fault or (fault := state_fault(fresh, case.scenario.n)):
        return f"init of {case.scenario.n} series: {fault}"
    missing = [name for name in traits_of(case.policy).checkpoint if not hasattr(fresh, name)]
    if missing:
        return f"traits.checkpoint names {missing[0]}, which is no field of {type(fresh).__name__}"
    states = [(tick, answer[0]) for tick, answer in enumerate(case.base.answers) if isinstance(answer, tuple) and answer]
    faults = ((tick, state_fault(state, case.scenario.n, like=fresh)) for tick, state in states)
    return next((f"at tick {tick} it returned {fault}" for tick, fault in faults if fault), "")


def _answers(case: Case) -> str:
    types = {np.asarray(proposal.replicas).dtype for proposal in case.base.proposals()}
    return next((f"replicas are {kind}, which has no NaN to abstain with: expected a float" for kind in types if kind.kind != "f"), "")


def _finite(case: Case) -> str:
    for tick, proposal in enumerate(case.base.proposals()):
        for name, column in (("replicas", proposal.replicas), ("expected", proposal.expected)):
            values = np.zeros(0) if column is None else np.asarray(column)
            for series in np.flatnonzero((values < 0) | np.isinf(values)):
                return f"{name} is {values[series]} {case.place(tick, int(series))}"
    return ""


def _proposes(case: Case) -> str:
    return "" if np.isfinite(case.base.replicas).any() else f"it abstained for every series at each of {case.scenario.ticks} ticks"


def _deterministic(case: Case) -> str:
    again = run(case.policy, case.scenario, case.params)
    if again.fault:
        return f"when the run was repeated, {again.fault}"
    same = (again.replicas == case.base.replicas) | (np.isnan(again.replicas) & np.isnan(case.base.replicas))
    for tick, series in np.argwhere(~same):
        first, second = case.base.replicas[tick, series], again.replicas[tick, series]
        return f"{case.place(tick, series)} it proposed {first}, and {second} when the run was repeated"
    return ""


def _permutation(case: Case) -> str:
    order = np.random.default_rng(case.seed).permutation(case.scenario.n)
    moved = order if order[0] != 0 else order[::-1].copy()
    return _chosen(case, moved, "after a shuffle of the columns")


def _columns(case: Case) -> str:
    some = np.random.default_rng(case.seed).choice(case.scenario.n, _ALONE, replace=False)
    alone = (_chosen(case, np.array([series]), "when it was alone") for series in some)
    return next((difference for difference in alone if difference), "")


def _chosen(case: Case, series: Ints, when: str) -> str:
    """What is different if there are only these series, in this order."""
    other = run(case.policy, taken(case.scenario, series), taken(case.params, series))
    return f"{when}, {other.fault}" if other.fault else case.difference(other.replicas, series, when)


def _unknown(case: Case) -> str:
    silent = np.array([1, case.scenario.n - 1])
    others = np.setdiff1d(np.arange(case.scenario.n), silent)
    other = run(case.policy, silenced(case.scenario, silent), case.params)
    if other.fault:
        return f"with two series of which nothing is known, {other.fault}"
    for tick, column in np.argwhere(np.isfinite(other.replicas[:, silent])):
        return f"it proposed {other.replicas[tick, silent[column]]} {case.place(tick, silent[column])}, of which nothing was known"
    return case.difference(other.replicas[:, others], others, f"when nothing was known of series {silent[0]} and {silent[1]}")


def _free(case: Case) -> str:
    n = case.scenario.n
    order = np.concatenate([[3], np.arange(n // 2), [0], np.arange(n // 2, n), [5]])
    free = np.array([0, n // 2 + 1, n + 2])
    used = np.setdiff1d(np.arange(order.size), free)
    other = run(case.policy, freed(taken(case.scenario, order), free), taken(case.params, order))
    if other.fault:
        return f"with three free columns, {other.fault}"
    for tick, column in np.argwhere(np.isfinite(other.replicas[:, free])):
        return f"it proposed {other.replicas[tick, free[column]]} at tick {tick} for a column that nobody uses"
    return case.difference(other.replicas[:, used], np.arange(n), "with free columns between the others")


def _monotone(case: Case) -> str:
    few = case.base.replicas
    for more in raised(case.scenario, np.random.default_rng(case.seed)):
        other = run(case.policy, more, case.params)
        if other.fault:
            return f"with more load, {other.fault}"
        enough = other.replicas >= few - 1e-6 * np.maximum(1, few)
        for tick, series in np.argwhere(np.isfinite(few) & ~enough):
            return f"{case.place(tick, series)} it proposed {few[tick, series]}, and {other.replicas[tick, series]} under more load"
    return ""


CHECKS: Mapping[str, Check] = MappingProxyType(
    {
        "answers": _answers,
        "finite": _finite,
        "proposes": _proposes,
        "inputs": run_and_compare,
        "deterministic": _deterministic,
        "permutation": _permutation,
        "columns": _columns,
        "unknown": _unknown,
        "free": _free,
        "membership": run_with_newcomers,
        "monotone": _monotone,
    }
)
"""The checks of a policy that can be called."""
