"""What deploy/examples promises: a file for each case, each right, all of them together too."""

import sys
from pathlib import Path

import pytest

from autoscaler import registry
from autoscaler.core.spec import Usage
from autoscaler.core.types import Mode, TargetKind
from autoscaler.policyfile.load import load
from autoscaler.testing import check_policy

EXAMPLES = Path(__file__).parents[2] / "deploy" / "examples"
NOW_S = 1_800_000_000.0


@pytest.fixture(autouse=True)
def policy_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    registry.add_path([EXAMPLES / "own-policy"])


@pytest.mark.parametrize("file", [pytest.param(file, id=file.stem) for file in sorted(EXAMPLES.rglob("*.yaml"))])
def test_right_and_worth_no_warning(file: Path) -> None:
    policies = load([file], NOW_S)
    assert len(policies.specs) + len(policies.selections) + len(policies.health) == 1
    assert policies.warnings == ()


def test_all_together_show_every_case() -> None:
    specs = {Path(spec.origin.split(" (")[0]).stem: spec for spec in load([EXAMPLES, EXAMPLES / "own-policy"], NOW_S).specs}
    assert (specs["threshold"].policy.name, specs["forecast"].policy.name) == ("threshold", "forecast")
    assert specs["moving-average"].policy.params.panic_threshold == 1.8
    assert len(specs["several-metrics"].series) == 3
    assert specs["behavior"].behavior.down.window_s == 600
    assert len(specs["schedule"].schedule) >= 4
    assert specs["fallback"].fallback is not None
    assert (specs["dry-run"].mode, specs["paused"].mode) == (Mode.DRY_RUN, Mode.PAUSED)
    assert specs["paused"].mode_until_s > NOW_S
    assert (specs["statefulset"].workload.kind, specs["custom-resource"].workload.api_version) == ("StatefulSet", "argoproj.io/v1alpha1")
    assert specs["value-target"].series[0].target_kind is TargetKind.VALUE
    assert specs["scale-to-zero"].min_replicas == 0
    assert [series.query for series in specs["cpu"].series] == [Usage("cpu", "app"), Usage("memory")]
    assert specs["saturation"].series[0].saturation is not None
    assert specs["saturation"].coverage is not None
    assert specs["saturation"].coverage.is_given
    assert specs["objective"].objective is not None
    assert specs["policy"].policy.params.window_s == 600


def test_the_own_policy_keeps_the_contract() -> None:
    check_policy(registry.find("spare:Spare").policy)
