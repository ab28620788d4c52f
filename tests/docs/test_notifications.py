"""docs/notifications.md: every setting of every sink, with the defaults that hold; its examples are right."""

import hashlib
import hmac
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from autoscaler.adapters.notify.webhook import signature
from autoscaler.core.health.lifecycle import Kind
from autoscaler.core.health.taxonomy import Cause
from autoscaler.endpoints import SINKS, HttpSink
from autoscaler.loops import delivery
from autoscaler.metrics import METRICS
from autoscaler.policyfile.load import load as load_policies
from autoscaler.settings import load

PAGE = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.+)\n((?:(?!^## ).*\n)+)", PAGE, re.MULTILINE))


def rows(section: str) -> dict[str, str]:
    """Settings and their defaults, as told."""
    found = dict[str, str]()
    for line in SECTIONS[section].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            found |= dict.fromkeys(re.findall(r"`(\w+)`", cells[0]), cells[1].strip("`"))
    return found


def test_every_setting_of_all_sinks() -> None:
    assert set(rows("Every sink")) == {*HttpSink.model_fields, "type"}


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        pytest.param("Alertmanager", "alertmanager", id="alertmanager"),
        pytest.param("Webhook", "webhook", id="webhook"),
        pytest.param("PagerDuty", "pagerduty", id="pagerduty"),
    ],
)
def test_settings_of_one(section: str, kind: str) -> None:
    fields = SINKS[kind].model_fields
    told = rows(section)
    assert {*fields} - {*HttpSink.model_fields, "type"} == {*told} - {"url"}
    for name, default in told.items():
        real = fields[name].default
        if isinstance(real, bool | float | str):
            assert default == (str(real).lower() if isinstance(real, bool) else f"{real:g}" if isinstance(real, float) else real)


def test_the_settings_at_the_top_are_right(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "settings.toml").write_text(text)
    settings = load(None, tmp_path / "settings.toml", {"AUTOSCALER_POLICIES": "/policies"})
    assert settings.sink_names() == set(tomllib.loads(text)["sinks"])
    assert {sink.type for sink in settings.sinks.values()} == set(SINKS)


def test_the_policy_at_the_top_is_right(tmp_path: Path) -> None:
    (tmp_path / "health.yaml").write_text(re.findall(r"```yaml\n(apiVersion.*?)```", PAGE, re.DOTALL)[0])
    (spec,) = load_policies([tmp_path], 0.0).health
    assert set(spec.sinks) <= {"alerts", "chat"}


def test_every_turn_is_told() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", SECTIONS["What is told"], re.MULTILINE)) == set(map(str, Kind)) - {"pending"}


def test_names_exist() -> None:
    names = {metric.name for metric in METRICS}
    assert set(re.findall(r"`(autoscaler_\w+)", PAGE)) <= names
    causes = set(map(str, Cause))
    assert set(re.findall(r'alertname=~?"([\w|]+)"', PAGE)[0].split("|")) <= causes
    for told in re.findall(r'alertname=~?"([\w|]+)"', PAGE):
        assert set(told.split("|")) <= causes
    assert set(re.findall(r"`(\w+)(?:Detected|Resolved)`", PAGE)) <= causes


def test_figures_are_those_of_the_queue() -> None:
    said = SECTIONS["Every sink"]
    assert f"({delivery.QUEUE_MAX} reports)" in said
    assert f"2, 4 … {delivery.BACK_OFF_MAX_S:g} seconds" in said
    assert (delivery.EXPIRES_S, delivery.RESOLVED_EXPIRES_S) == (3600.0, 6 * 3600.0)


def test_the_receivers_check_believes_our_signature_and_no_other() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    space: dict[str, Any] = {}
    exec(compile(code, "receiver", "exec"), space)  # noqa: S102 - the page's own code
    is_genuine = cast("Callable[[str, bytes, str], bool]", space["is_genuine"])
    now_s, body = round(time.time()), b'{"version": 1}'
    good = signature(["new", "old"], now_s, body)
    assert is_genuine(good, body, "old")
    assert is_genuine(good, body, "new")
    assert not is_genuine(good, body, "other")
    assert not is_genuine(good, body + b" ", "new")
    assert not is_genuine(signature(["new"], now_s - 600, body), body, "new")
    assert hmac.new(b"new", f"{now_s}.".encode() + body, hashlib.sha256).hexdigest() in good
