"""Label selectors, as Kubernetes means them."""

from collections.abc import Mapping

import pytest

from autoscaler.core.selector import Operator, Requirement, Selector

LABELS = {"team": "shop", "tier": ""}


@pytest.mark.parametrize(
    ("requirement", "fits"),
    [
        pytest.param(Requirement("team", Operator.IN, ("shop", "ads")), True, id="in"),
        pytest.param(Requirement("team", Operator.IN, ("ads",)), False, id="not-in-these"),
        pytest.param(Requirement("owner", Operator.IN, ("shop",)), False, id="absent-is-in-none"),
        pytest.param(Requirement("team", Operator.NOT_IN, ("ads",)), True, id="not-in"),
        pytest.param(Requirement("team", Operator.NOT_IN, ("shop",)), False, id="in-what-it-must-not"),
        pytest.param(Requirement("owner", Operator.NOT_IN, ("shop",)), True, id="absent-is-not-in"),
        pytest.param(Requirement("tier", Operator.EXISTS), True, id="empty-exists"),
        pytest.param(Requirement("owner", Operator.EXISTS), False, id="absent"),
        pytest.param(Requirement("owner", Operator.DOES_NOT_EXIST), True, id="absent-as-wanted"),
        pytest.param(Requirement("team", Operator.DOES_NOT_EXIST), False, id="there-against-the-wish"),
    ],
)
def test_one_requirement(requirement: Requirement, fits: bool) -> None:  # noqa: FBT001 - a table's column
    assert requirement.fits(LABELS) is fits


@pytest.mark.parametrize(
    ("labels", "fits"),
    [
        pytest.param(LABELS, True, id="all-hold"),
        pytest.param({"team": "shop"}, False, id="one-does-not"),
        pytest.param({}, False, id="none"),
    ],
)
def test_all_must_hold(labels: Mapping[str, str], fits: bool) -> None:  # noqa: FBT001 - a table's column
    both = (Requirement("team", Operator.IN, ("shop",)), Requirement("tier", Operator.EXISTS))
    assert Selector("shop", "Deployment", "apps/v1", both).fits(labels) is fits
    assert Selector("shop", "Deployment", "apps/v1").fits(labels)
