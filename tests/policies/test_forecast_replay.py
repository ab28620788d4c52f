"""The replay's own step, which is made for speed, beside the plant that everything else runs on."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.core.columns import revised
from autoscaler.core.plant import Plant, no_backlog, serve
from policies.forecasting.replay import _served
from policies.forecasting.state import MULTIPLES, SETTINGS, blank

WORKLOADS, BEATS, JUMPS, WIDTH = 40, 400, 0.01, 0.015
PLANT = Plant()
REQUESTS = PLANT.knee * 100.0 * PLANT.step_s
"""What one replica carries in a beat."""


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), roughness=st.sampled_from([0.01, 0.03]), headroom=st.floats(-0.1, 0.4))
def test_a_replayed_beat_is_a_step_of_the_plant(seed: int, roughness: float, headroom: float) -> None:
    """Loads that wander and jump, levels that follow a minute late: the same backlog; of lateness never less, and at most 0.38 points more.

    The difference is the replay's average over demand +- 1.5 %, which stands for how the load moves within a beat: of what is convex the
    mean is no less, and where demand is just at the level it is a quarter of that width. Jumps go up, and the rest is smooth: where load
    falls by a third right after it has tripled, one cohort forgets sooner than four what waited before the fall.
    """
    draw = np.random.default_rng(seed)
    shape = (BEATS, WORKLOADS)
    moves = draw.normal(0, roughness, shape) + (draw.random(shape) < JUMPS) * np.abs(draw.normal(0, 0.5, shape))
    demand = draw.uniform(2, 60, WORKLOADS) * np.exp(np.clip(np.cumsum(moves, axis=0), -2, 2))
    level = np.maximum(np.ceil(np.roll(demand, 4, axis=0) * (1 + headroom)), 1.0)

    state, backlog = blank(WORKLOADS), no_backlog(PLANT, WORKLOADS)
    replayed, real = np.zeros(WORKLOADS), np.zeros(WORKLOADS)
    for beat in range(BEATS):
        table = np.broadcast_to(level[beat].astype(np.float32), (len(SETTINGS), MULTIPLES.size, WORKLOADS))
        late, waiting = _served(state, table, demand[beat].astype(np.float32))
        state = revised(state, {"backlog": waiting})
        backlog, outcome = serve(PLANT, backlog, demand[beat] * REQUESTS, level[beat])
        replayed += late[0, 0]
        real += outcome.late / REQUESTS
        np.testing.assert_allclose(waiting[0, 0], backlog.requests / REQUESTS, rtol=1e-4, atol=2e-3)
    total = demand.sum(axis=0)
    more = (replayed - real) / total
    assert more.min() > -1e-5
    assert more.max() < WIDTH / 4 + 1e-5
