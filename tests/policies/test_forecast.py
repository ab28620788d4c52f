"""``forecast``: what it keeps of the contract for policies."""

import pytest

from autoscaler.testing import PROPERTIES, check_policy
from policies.forecast import Forecast


@pytest.mark.parametrize("name", PROPERTIES)
def test_it_conforms(name: str) -> None:
    check_policy(Forecast, only=name)
