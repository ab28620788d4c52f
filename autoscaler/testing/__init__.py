"""What is promised, as suites to run on your own code: policies and adapters, ours and yours."""

from autoscaler.testing.policies import MAY_BREAK, PROPERTIES, broken_properties, check_policy, columns_of, view_of

__all__ = ["MAY_BREAK", "PROPERTIES", "broken_properties", "check_policy", "columns_of", "view_of"]
