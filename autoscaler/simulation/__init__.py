"""A world to scale in: loads, pods that take time to start, what a policy gets to see of them, and how well it did.

Used by the demo, backtest, tune and the benchmarks; all of them run the real ``decide`` against :mod:`autoscaler.core.plant`.
"""
