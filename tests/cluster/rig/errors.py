"""What can go wrong with the rig itself. A test that means to see a refusal catches ApiError and looks at its status."""


class RigError(RuntimeError):
    """A part did not start, stopped by itself, or was used in a state in which it cannot answer."""


class UnreachableError(RigError):
    """Nothing answered: refused, reset, or no answer within the deadline."""


class ApiError(RigError):
    """The API server answered, and refused.

    status: the HTTP status; reason: Kubernetes' own word for it ("NotFound", "Conflict", "Invalid", …).
    """

    def __init__(self, call: str, status: int, reason: str, message: str) -> None:
        super().__init__(f"{call}: {status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
