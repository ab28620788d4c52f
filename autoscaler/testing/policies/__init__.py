"""The conformance suite for scaling policies: :mod:`autoscaler.testing.policies.suite` says how to use it."""

from autoscaler.testing.policies.declarations import MAY_BREAK, PROPERTIES
from autoscaler.testing.policies.suite import broken_properties, check_policy, told
from autoscaler.testing.policies.views import columns_of, view_of

__all__ = ["MAY_BREAK", "PROPERTIES", "broken_properties", "check_policy", "columns_of", "told", "view_of"]
