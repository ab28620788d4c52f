"""Reads policy files: every mistake of all of them at once, or a spec for each workload.

A directory stands for its ``*.yaml`` and ``*.yml`` files, without those in directories below and without those whose names start
with a dot: of a mounted ConfigMap that is each key once, through the links that Kubernetes swaps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isnan
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from autoscaler.core.selector import Requirement, Selector
from autoscaler.core.spec import PolicyChoice, ScheduleRow, WorkloadSpec
from autoscaler.errors import ConfigError
from autoscaler.policyfile import checks, health, messages, positions
from autoscaler.policyfile.health import HealthPolicy, LoadedHealth, to_health_spec
from autoscaler.policyfile.parameters import choose
from autoscaler.policyfile.positions import Document
from autoscaler.policyfile.problems import FieldPath, PolicyFileError, Problem, did_you_mean, got, one_of
from autoscaler.policyfile.schema import API_VERSION, DEFAULT_POLICY, KIND, ScalingPolicy, Window
from autoscaler.policyfile.specs import schedule_rows, selector_of, to_spec
from autoscaler.policyfile.syntax import decode
from autoscaler.ports import PolicySet, Selection
from autoscaler.registry import Registered, find, names

_P = TypeVar("_P", ScalingPolicy, HealthPolicy)

SIZE_MAX = 16 * 2**20
"""Bytes in one file; a ConfigMap holds one MiB at most."""

SUFFIXES = (".yaml", ".yml")
STDIN = Path("-")


@dataclass(frozen=True, slots=True)
class File:
    """The content of a policy file, under the name that messages call it."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy without a mistake of its own. ``spec`` has no schedule rows yet: those depend on the time.

    Of a policy for many, ``row`` gives the spec of each workload by its name, and ``spec`` is that of any. ``notes`` are the remarks
    about it that do not depend on the time.
    """

    document: Document
    name: str
    spec: WorkloadSpec
    row: Callable[[str], WorkloadSpec]
    selector: Selector | None
    schedule: tuple[Window, ...]
    notes: tuple[Problem, ...]

    @property
    def policy(self) -> ScalingPolicy:
        """The policy as it was written, read again: kept for each of thousands, it would be the most of what they weigh."""
        return ScalingPolicy.model_validate(self.document.root.plain)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one file holds."""

    policies: tuple[Loaded | LoadedHealth, ...]
    problems: tuple[Problem, ...]


class Assembled(NamedTuple):
    """The policies of all files, right together: how workloads are scaled, and how their pods are watched."""

    scaling: tuple[Loaded, ...] = ()
    health: tuple[LoadedHealth, ...] = ()


KINDS = (KIND, health.KIND)


def load(paths: Iterable[Path], now_s: float) -> PolicySet:
    """The policies of these files and directories. Raises :class:`PolicyFileError`."""
    files, problems = read(paths)
    return to_specs(assemble([parse(file) for file in files], problems), now_s)


def read(paths: Iterable[Path]) -> tuple[list[File], list[Problem]]:
    """The files behind the paths, sorted within a directory, each once; and what cannot be read."""
    files: dict[Path, File] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            listed = _files(path)
        except OSError as error:
            problems.append(_unreadable(path, error))
            continue
        for file in listed:
            try:
                files.setdefault(file.absolute(), _read(file))
            except OSError as error:
                problems.append(_unreadable(file, error))
    return list(files.values()), problems


def _files(path: Path) -> Sequence[Path]:
    """The path itself, or what counts of a directory; a link that leads nowhere counts, so that it is told."""
    if path == STDIN or not path.is_dir():
        return [path]
    listed = (file for file in path.iterdir() if file.suffix in SUFFIXES and not file.name.startswith("."))
    return sorted(file for file in listed if file.is_file() or not file.exists())


def _read(path: Path) -> File:
    if path == STDIN:
        return File("<stdin>", sys.stdin.buffer.read(SIZE_MAX + 1))
    with path.open("rb") as stream:
        return File(str(path), stream.read(SIZE_MAX + 1))


def _unreadable(path: Path, error: OSError) -> Problem:
    return Problem(str(path), 0, 0, "", f"cannot be read: {error.strerror or error}")


def parse(file: File) -> Parsed:
    """The policies of a file, and everything that is wrong with it."""
    if len(file.content) > SIZE_MAX:
        return Parsed((), (Problem(file.name, 0, 0, "", f"larger than {SIZE_MAX // 2**20} MiB; expected a policy file"),))
    text, problem = decode(file.name, file.content)
    if problem is not None:
        return Parsed((), (problem,))
    documents, problems = positions.parse(file.name, text)
    if not documents and not problems:
        problems = [Problem(file.name, 1, 1, "", f"empty; expected a document with apiVersion: {API_VERSION} and kind: {one_of(KINDS)}")]
    policies = []
    for document in documents:
        loaded, wrong = _policy(document)
        document.release()
        problems += wrong
        if loaded is not None:
            policies.append(loaded)
    return Parsed(tuple(policies), tuple(problems))


def _policy(document: Document) -> tuple[Loaded | LoadedHealth | None, list[Problem]]:
    """The policy of a document, or what is wrong with it."""
    foreign = list(_foreign(document))
    if foreign:
        return None, [*document.problems, *foreign]
    read = _health if document.root.plain.get("kind") == health.KIND else _scaling
    found, problems = read(document)
    if found is not None and not problems and not document.problems:
        return found, []
    structural = {problem.field for problem in document.problems}  # what YAML has lost is not what the user gave
    return None, [*document.problems, *(problem for problem in problems if problem.field not in structural)]


def _scaling(document: Document) -> tuple[Loaded | None, list[Problem]]:
    policy, problems = _validated(document, ScalingPolicy, checks.mistakes)
    chosen, wrong = _chosen(document)
    problems += wrong
    if policy is None or chosen is None or problems:
        return None, problems
    registered, choice = chosen
    row = partial(to_spec, policy, choice, registered.traits.behavior, _origin(document, policy))
    spec, selector = row(), selector_of(policy)
    notes = tuple(document.problem(path, text) for path, text in checks.remarks(policy, -inf))
    only: Callable[[str], WorkloadSpec] = row if selector else lambda _: spec
    return Loaded(document, policy.metadata.name, spec, only, selector, policy.spec.schedule, notes), []


def _health(document: Document) -> tuple[LoadedHealth | None, list[Problem]]:
    policy, problems = _validated(document, HealthPolicy, health.mistakes)
    if policy is None or problems:
        return None, problems
    return LoadedHealth(document, policy, to_health_spec(policy, _origin(document, policy))), []


def _origin(document: Document, policy: ScalingPolicy | HealthPolicy) -> str:
    return f"{document.file} ({policy.metadata.name})"


def _validated(document: Document, model: type[_P], check: Callable[[object], Iterator[checks.Finding]]) -> tuple[_P | None, list[Problem]]:
    """The model of a document, and what is wrong with its fields and between them."""
    policy, problems = None, list[Problem]()
    try:
        policy = model.model_validate(document.root.plain)
    except ValidationError as error:
        problems += messages.problems(document, model, error.errors(include_url=False))
    return policy, problems + [document.problem(path, text) for path, text in check(document.root.plain)]


def _foreign(document: Document) -> Iterator[Problem]:
    """Something else than a policy: all that needs to be said about it."""
    root = document.root.plain
    if not isinstance(root, dict):
        yield document.problem((), f"expected a document with apiVersion: {API_VERSION} and kind: {one_of(KINDS)}, got {got(root)}")
    elif root.get("kind") not in KINDS and root.get("apiVersion") != API_VERSION:
        path: FieldPath = ("kind",) if "kind" in root else ()
        given = f"{root['kind']} of {root.get('apiVersion', 'no apiVersion')}" if "kind" in root else "neither"
        yield document.problem(path, f"expected kind: {one_of(KINDS)} and apiVersion: {API_VERSION}, got {given}")
    elif root.get("kind") not in KINDS and "kind" in root:
        kind = root["kind"]
        close = did_you_mean(kind, KINDS, otherwise="") if isinstance(kind, str) else ""
        yield document.problem(("kind",), f"expected {one_of(KINDS)}, got {got(kind)}" + (f"; {close}" if close.startswith("did") else ""))


def _chosen(document: Document) -> tuple[tuple[Registered, PolicyChoice] | None, list[Problem]]:
    """The scaling policy that the document names, with its parameters, or what is wrong with them."""
    node = document.root.at(("spec", "policy"))
    given = dict(node.plain) if node is not None and isinstance(node.plain, dict) else {}
    name = DEFAULT_POLICY if node is None else given.pop("type", None)
    if not isinstance(name, str):
        return None, []
    try:
        registered = find(name)
        choice, faults = choose(registered, given)
    except ConfigError as error:
        hint = did_you_mean(name, names(), otherwise="")
        text = f"{error}; {hint}" if hint.startswith("did") else str(error)
        return None, [document.problem(("spec", "policy", "type"), text)]
    path: FieldPath = ("spec", "policy")
    wrong = [document.problem((*path, fault.name) if fault.name else path, fault.text, key=fault.unknown) for fault in faults]
    wrong += [document.problem(place, text) for place, text in checks.unread(document.root.plain, name, registered.traits)]
    return (None if choice is None else (registered, choice)), wrong


def assemble(parsed: Iterable[Parsed], unread: Iterable[Problem] = (), sinks: Collection[str] | None = None) -> Assembled:
    """The policies of several files, if they are right together. Raises :class:`PolicyFileError`.

    ``sinks``: the names that the settings have for those who are told; None: not known here, so that any may be right.
    """
    problems = list(unread)
    scaling: list[Loaded] = []
    watching: list[LoadedHealth] = []
    for file in parsed:
        problems += file.problems
        scaling += [loaded for loaded in file.policies if isinstance(loaded, Loaded)]
        watching += [loaded for loaded in file.policies if isinstance(loaded, LoadedHealth)]
    problems += [*_same_targets(scaling), *_same_names(scaling), *_same_names(watching), *_same_selectors(watching)]
    if sinks is not None:
        problems += _unknown_sinks(watching, sinks)
    if problems:
        raise PolicyFileError(problems)
    return Assembled(tuple(scaling), tuple(watching))


def _same_targets(policies: Sequence[Loaded]) -> Iterator[Problem]:
    """One workload takes one policy."""
    targets: dict[tuple[str, ...], Loaded] = {}
    for loaded in policies:
        workload = loaded.spec.workload
        group = workload.api_version.rpartition("/")[0]
        unnamed = () if loaded.selector is None else (loaded.name,)  # who finds a workload may find it beside others
        first = targets.setdefault((group, workload.kind, workload.namespace, workload.name, *unnamed), loaded)
        if first is not loaded and not unnamed:
            text = f"{workload} already has a policy, at {_place(first, 'scaleTargetRef')}; expected one for each workload"
            yield loaded.document.problem(("spec", "scaleTargetRef"), text)


def _same_names(policies: Sequence[Loaded] | Sequence[LoadedHealth]) -> Iterator[Problem]:
    """A name stands for one policy of its kind."""
    named: dict[tuple[str, str], Loaded | LoadedHealth] = {}
    for loaded in policies:
        namespace, name = _name(loaded)
        first = named.setdefault((namespace, name), loaded)
        if first is not loaded:
            text = f"{name} is also the name of the policy at {_place(first)}; expected a name for each in {namespace}"
            yield loaded.document.problem(("metadata", "name"), text)


def _name(loaded: Loaded | LoadedHealth) -> tuple[str, str]:
    """Namespace and name."""
    if isinstance(loaded, Loaded):
        return loaded.spec.workload.namespace, loaded.name
    return loaded.policy.metadata.namespace, loaded.policy.metadata.name


def _same_selectors(policies: Sequence[LoadedHealth]) -> Iterator[Problem]:
    """Of two policies that select a workload the more specific one applies; two that select the same cannot be told apart."""
    selectors: dict[tuple[str, frozenset[Requirement]], LoadedHealth] = {}
    for loaded in policies:
        first = selectors.setdefault((loaded.spec.namespace, frozenset(loaded.spec.requirements)), loaded)
        if first is not loaded:
            field = "selector" if loaded.document.root.at(("spec", "selector")) is not None else ""
            text = f"selects the same workloads as the policy at {_place(first)}; expected one policy for each selector of a namespace"
            yield loaded.document.problem(("spec", field) if field else ("spec",), text)


def _unknown_sinks(policies: Sequence[LoadedHealth], known: Collection[str]) -> Iterator[Problem]:
    for loaded in policies:
        for index, name in enumerate(loaded.policy.spec.notify):
            if name not in known:
                hint = did_you_mean(name, sorted(known), otherwise="the settings have")
                yield loaded.document.problem(("spec", "notify", index), f"{name} is no sink of the settings; {hint}")


def _place(loaded: Loaded | LoadedHealth, field: str = "") -> str:
    mark = loaded.document.root.mark_of(("spec", field) if field else ("metadata", "name"))
    return f"{loaded.document.file}:{mark.line}:{mark.column}"


def to_specs(policies: Assembled, now_s: float) -> PolicySet:
    """What the core needs from now on for 48 hours: schedules are expanded that far."""
    specs, selections = [], []
    for loaded in policies.scaling:
        rows = schedule_rows(loaded.schedule, now_s)
        if loaded.selector is None:
            specs.append(replace(loaded.spec, schedule=rows) if rows else loaded.spec)
        else:
            selections.append(Selection(loaded.selector, partial(_row, loaded, rows), loaded.spec.origin))
    warnings = tuple(str(problem) for problem in remarks(policies.scaling, now_s))
    return PolicySet(tuple(specs), warnings, tuple(selections), tuple(loaded.spec for loaded in policies.health))


def _row(loaded: Loaded, schedule: tuple[ScheduleRow, ...], name: str) -> WorkloadSpec:
    return replace(loaded.row(name), schedule=schedule)


def remarks(policies: Iterable[Loaded], now_s: float) -> list[Problem]:
    """What is allowed but probably not meant."""
    return [problem for loaded in policies for problem in _remarks(loaded, now_s)]


def _remarks(loaded: Loaded, now_s: float) -> Iterable[Problem]:
    if isnan(loaded.spec.mode_until_s):
        return loaded.notes
    return [loaded.document.problem(path, text) for path, text in checks.remarks(loaded.policy, now_s)]
