"""Scaling policies, one algorithm per file. They import :mod:`autoscaler.core` and nothing else of the project."""
