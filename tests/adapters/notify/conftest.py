"""Certificates are made as for Prometheus."""

from tests.adapters.prometheus.conftest import certificates

__all__ = ["certificates"]
