"""Where the rig finds what it runs and replays; nothing outside the tree."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BINARY = ROOT / ".cache" / "kube"
"""Kubernetes and etcd in one program, built by `tests/cluster/prepare`."""
TRACES = ROOT / "benchmarks" / "traces"
