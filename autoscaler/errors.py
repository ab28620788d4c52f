"""Errors, named by how a loop reacts to them.

Adapters translate what their library raises into one of these (``raise … from error``), so that a loop needs to know
nothing about HTTP, YAML or Kubernetes to do the right thing.
"""


class AutoscalerError(Exception):
    """Anything this project raises on purpose."""


class ConfigError(AutoscalerError):
    """The configuration is wrong: nothing starts, or the last good one stays. The process exits with 3."""


class TransientError(AutoscalerError):
    """It may go through later: hold, back off, try again.

    ``retry_after_s`` is the other side's wish, in seconds, where it gave one.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class StaleViewError(TransientError):
    """The object is no longer as it was seen: observe again before deciding anything about it."""


class AnswerError(TransientError):
    """The other side answered, but not in the form that was asked for: another type, HTML, broken JSON."""


class PermanentError(AutoscalerError):
    """Trying again will not help until somebody changes something: report it, skip it, go on with the others."""
