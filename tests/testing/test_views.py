"""Views and parameter columns for tests of policies."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from autoscaler.testing import columns_of, view_of
from policies.threshold import ThresholdParams


def test_view_is_whole_and_read_only() -> None:
    view = view_of([[1, 2], [3, 4]], [5, 6], ready=[5, np.nan], season_mean=np.zeros((2016, 2)))
    arrays = {item.name: getattr(view, item.name) for item in fields(view) if isinstance(getattr(view, item.name), np.ndarray)}
    assert (str(view.demand.dtype), view.demand.tolist(), view.workload.tolist()) == ("float32", [[1, 2], [3, 4]], [0, 1])
    assert view.ready[0] == 5
    assert view.season_mean is not None
    assert str(view.season_mean.dtype) == "float32"
    assert {name for name, array in arrays.items() if array.flags.writeable} == set()
    assert {name for name, array in arrays.items() if array.shape[-1] != 2} == set()
    assert view.season_max is None


def test_columns_of_rows() -> None:
    columns = columns_of([ThresholdParams(high=2, low=1), ThresholdParams(high=3)])  # type: ignore[arg-type]
    assert columns.high.tolist() == [2, 3]
    assert columns.low.tolist() == [1, 0.9]
    assert columns.up == "target"


def test_rows_that_are_never_in_one_call() -> None:
    with pytest.raises(ValueError, match=r"up differs between the rows: \['step', 'target'\]"):
        columns_of([ThresholdParams(), ThresholdParams(up="step")])
