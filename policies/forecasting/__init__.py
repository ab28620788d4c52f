"""The parts of :mod:`policies.forecast`: what it remembers, how it predicts, how it replays its own past."""
