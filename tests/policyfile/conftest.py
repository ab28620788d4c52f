"""A small valid policy, to be varied."""

from collections.abc import Callable
from pathlib import Path

import pytest

Write = Callable[..., Path]

WEB = """\
apiVersion: autoscaler.dev/v1alpha1
kind: ScalingPolicy
metadata: {name: NAME, namespace: shop}
spec:
  scaleTargetRef: {name: NAME}
  minReplicas: 2
  maxReplicas: 20
  metrics:
    - name: requests
      prometheus: {query: up}
      target: {averageValue: 85}
  policy: {type: movingAverage}
"""


@pytest.fixture
def policy_text() -> Callable[..., str]:
    """The text of a policy for a Deployment of that name, with further lines of its spec."""

    def text(name: str = "web", spec: str = "") -> str:
        return WEB.replace("NAME", name) + "".join(f"  {line}\n" for line in spec.splitlines())

    return text
