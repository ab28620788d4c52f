"""Which workloads a policy for many is about: those of a kind in its namespace whose labels fit, as in Kubernetes' label selectors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Operator(Enum):
    """How a label is held against values; the names are Kubernetes'."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; written as ``kubectl get -l`` takes it."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.IN if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
            case _:
                return f"{self.key} {'in' if self.operator is Operator.IN else 'notin'} ({','.join(self.values)})"

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether the labels meet it; a label that is not there is in no values, and so meets NotIn."""
        if self.operator is Operator.EXISTS:
            return self.key in labels
        if self.operator is Operator.DOES_NOT_EXIST:
            return self.key not in labels
        return (labels.get(self.key) in self.values) == (self.operator is Operator.IN)


@dataclass(frozen=True, slots=True)
class Selector:
    """Workloads of one kind in one namespace that meet every requirement; none: all of them."""

    namespace: str
    kind: str
    api_version: str
    requirements: tuple[Requirement, ...] = ()

    def fits(self, labels: Mapping[str, str]) -> bool:
        """Whether an object of that kind and namespace with these labels is meant."""
        return all(each.fits(labels) for each in self.requirements)
