"""How well forecasts do is a metric: by workload and metric, and only where there is something to say."""

import pytest

from autoscaler import metrics
from autoscaler.core.spec import PolicyChoice, Query, SeriesSpec
from autoscaler.registry import find
from tests.loops.rig import Rig, running, scaled

LABELS = ("shop", "Deployment", "web")


async def test_accuracy_is_exported_and_shown() -> None:
    found = find("forecast")
    choice = PolicyChoice("forecast", found.policy, found.policy.Params())
    both = (SeriesSpec("requests", Query('load{name="web"}'), 1.0), SeriesSpec("lag", Query('load{name="nobody"}'), 1.0))
    web = scaled("web", policy=choice, series=both, behavior=found.traits.behavior.absent)
    rig = Rig()
    async with running([web, scaled("api")], rig=rig):
        rig.loads["web"] = 8.0
        await rig.pass_ticks(3)
        assert rig.recorder.values(metrics.FORECAST_HITS) == {}, "the outcome of no forecast is known yet"
        await rig.pass_ticks(27)
        assert rig.recorder.values(metrics.FORECAST)[LABELS] == pytest.approx(8.0, rel=0.05)
        bias, hits = (rig.recorder.values(metric) for metric in (metrics.FORECAST_BIAS, metrics.FORECAST_HITS))
        assert (set(bias), set(hits)) == ({(*LABELS, "requests")}, {(*LABELS, "requests")}), "api does not forecast, nobody has no load"
        assert bias[*LABELS, "requests"] == pytest.approx(0.0, abs=0.05)
        assert 0.8 < hits[*LABELS, "requests"] <= 1.0
        notes = rig.row("web")["series"][0]["notes"]
        assert (notes["accuracy_bias"], notes["accuracy_hit_rate"]) == (bias[*LABELS, "requests"], hits[*LABELS, "requests"])
