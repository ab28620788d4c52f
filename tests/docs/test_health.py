"""docs/health.md: every cause, wait, remedy and setting that there is, with the defaults that hold."""

import re
from pathlib import Path

import pytest

from autoscaler.core.health.remedies import REMEDIES
from autoscaler.core.health.taxonomy import Cause, Waits
from autoscaler.policyfile.durations import format_duration
from autoscaler.policyfile.health import waits_as_given
from autoscaler.policyfile.load import load
from autoscaler.settings import Settings

PAGE = (Path(__file__).parents[2] / "docs" / "health.md").read_text("utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]
CAUSES = [row for row in ROWS if len(row) == 5]
REMEDY_ROWS = [row for row in ROWS if len(row) == 4]
NAMED = re.compile(r"`(\w+)`")


def test_every_cause_has_a_row() -> None:
    assert sorted(name for row in CAUSES for name in NAMED.findall(row[0])) == sorted(map(str, Cause))


def test_each_cause_has_its_remedy() -> None:
    told = {name: row[4].strip("`") for row in CAUSES for name in NAMED.findall(row[0])}
    assert {name: remedy for name, remedy in told.items() if remedy} == {str(cause): name for cause, name in REMEDIES.items()}


def test_every_remedy_has_a_row() -> None:
    assert sorted(row[0].strip("`") for row in REMEDY_ROWS) == sorted(REMEDIES.values())


def test_every_wait_is_told_with_its_default() -> None:
    told = dict[str, str]()
    for _, _, names, defaults, *_ in [*CAUSES, *REMEDY_ROWS]:
        told |= dict(zip(NAMED.findall(names), defaults.split(", ") if defaults else [], strict=True))
    told |= dict(re.findall(r"`(cleanRun)` \((\w+)\)", PAGE))
    assert told == {name: str(value) for name, value in waits_as_given(Waits()).items()}


@pytest.mark.parametrize("name", ["health", "remedies", "remedies_every_s", "breaker_share", "breaker_workload_share"])
def test_settings(name: str) -> None:
    row = next(row for row in ROWS if f"`{name}`" in row[0])
    default = Settings.model_fields[name].default
    place = [each.strip("`") for each in NAMED.findall(row[0])].index(name)
    assert row[1].split(", ")[place].strip("`") == (
        str(default).lower() if isinstance(default, bool) else f"{default:g}" if not isinstance(default, str) else default
    )


def test_the_policy_at_the_top_is_right(tmp_path: Path) -> None:
    text = re.search(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert text is not None
    (tmp_path / "health.yaml").write_text(text[1])
    (spec,) = load([tmp_path], 0.0).health
    assert (spec.sinks, format_duration(spec.waits.unready_s)) == (("alertmanager",), "10m")
