"""What is run: scenes (a trace, what is seen of it, how lateness is judged), variants of each, and which groups of policies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

from benchmarks.shapes import SHAPES

FINE = ("elb_requests_5min", "ms_ingress3_1min", "ms_mongo_app2_1min", "ms_mongo_app3_1min", "tweets_aapl_5min", "wikipedia_day_24s")
"""Traces with a step of five minutes or less that last a day: those that the aims are about."""

COARSE = ("ms_purchases_small_1h", "nyc_taxi_30min")
"""Traces with longer steps, listed apart."""

SHORT = ("azure_llm_conv_10s",)
"""An hour: for the cold suite alone."""

DAY_S = 86400.0
COARSE_SPAN_S = 28 * DAY_S
"""So much of the coarse traces is run: they last up to 215 days."""

GROUPS = ("policies", "hpa", "knative", "day")
"""Everybody but: the HPA tuned in hindsight; Knative; curves of a day. Beside these "duel": ``forecast`` and the usual HPA alone; and
"objective": ``forecast`` told of late requests or not, under a right target and one that is too high."""


@dataclass(frozen=True, slots=True, order=True)
class Variant:
    """Pods at the median load, start-up in seconds, relative noise on the metric, seed of arrivals and noise."""

    fleet: float = 10.0
    startup_s: float = 45.0
    noise: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True, order=True)
class Scene:
    """``signal`` and ``model`` as in the simulation; ``flags``: whether saturation is told; ``hold`` rates; ``cold``: the first day."""

    trace: str
    signal: str = "served"
    model: str = "knee"
    flags: bool = True
    hold: bool = False
    cold: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work: a group of policies on the variants of a scene. ``curves``: sweep the policies' own settings too.

    ``span_s``: only so much of the trace is run.
    """

    scene: Scene
    variants: tuple[Variant, ...]
    group: str
    curves: bool = False
    span_s: float = float("inf")

    @property
    def name(self) -> str:
        """A name for its file: what it is, for people, and all that it depends on, in a number."""
        words = [self.scene.trace, self.scene.signal, self.scene.model, self.group]
        words += [word for word in ("hold", "cold") if getattr(self.scene, word)] + ([] if self.scene.flags else ["noflags"])
        return "-".join([*words, f"{_number(asdict(self)):08x}"])


def _number(data: object) -> int:
    """The same for the same content, on every machine."""
    from zlib import crc32

    return crc32(repr(data).encode())


HEADLINE = (Variant(10.0), Variant(20.0))
SEEDS = tuple(Variant(fleet, seed=seed) for seed in range(1, 10) for fleet in (10.0, 20.0))
FACTORS = (
    *(Variant(fleet) for fleet in (3.0, 50.0)),
    *(Variant(startup_s=startup_s) for startup_s in (15.0, 120.0)),
    *(Variant(noise=noise) for noise in (0.02, 0.05)),
)
PRODUCT = tuple(
    Variant(fleet, startup_s, noise, seed)
    for fleet, startup_s, noise, seed in product((3.0, 10.0, 20.0, 50.0), (15.0, 45.0, 120.0), (0.0, 0.02, 0.05), (0, 1, 2))
)


def quick() -> Iterator[Task]:
    """A sanity check of two minutes: a calm day, two restless ones, and the hour of the cold suite."""
    for trace in ("wikipedia_day_24s", "elb_requests_5min"):
        for group in GROUPS[:3]:
            yield Task(Scene(trace), (Variant(),), group, curves=True, span_s=1.5 * DAY_S)
    yield Task(Scene("azure_llm_conv_10s", cold=True), (Variant(),), "policies")


def headline() -> Iterator[Task]:
    """Every trace as the aims have it, with curves, a day to look at, and the cold suite; and nine more draws of the requests."""
    for trace in (*FINE, *COARSE):
        span_s = COARSE_SPAN_S if trace in COARSE else float("inf")
        for group in GROUPS:
            variants = HEADLINE[:1] if group == "day" else HEADLINE
            yield Task(Scene(trace), variants, group, curves=True, span_s=span_s)
    for trace in (*FINE, *SHORT):
        yield Task(Scene(trace, cold=True), HEADLINE, "policies")
    for trace, group in product(FINE, ("duel", "hpa")):
        yield Task(Scene(trace), SEEDS, group)


def shapes() -> Iterator[Task]:
    """Loads that nobody recorded and nothing was tuned to."""
    for name, group in product(SHAPES, ("duel", "hpa")):
        yield Task(Scene(name), HEADLINE, group)


def objectives() -> Iterator[Task]:
    """What an objective corrects: a target that is too high, and load that is rougher within a minute than its metric."""
    for name in (*FINE, "shape_bursts"):
        yield Task(Scene(name), HEADLINE[:1], "objective")


def factors() -> Iterator[Task]:
    """The headline, and everything else changed one at a time."""
    yield from headline()
    for trace in FINE:
        for group in GROUPS[:2]:
            side = "duel" if group == "policies" else group
            yield Task(Scene(trace), FACTORS, side)
            for changed in (
                Scene(trace, signal="arrivals"),
                Scene(trace, signal="utilisation"),
                Scene(trace, model="slots"),
                Scene(trace, flags=False),
                Scene(trace, hold=True),
            ):
                yield Task(changed, HEADLINE[:1], side)


def full() -> Iterator[Task]:
    """The whole product, which takes days of processor time: for many machines."""
    yield from headline()
    for trace, signal, model, group in product(FINE, ("arrivals", "served", "utilisation"), ("knee", "slots"), GROUPS[:2]):
        yield Task(Scene(trace, signal, model), PRODUCT, group)


PRESETS = {"quick": quick, "headline": headline, "shapes": shapes, "objective": objectives, "factors": factors, "full": full}
