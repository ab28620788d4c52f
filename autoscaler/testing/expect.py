"""How a contract's check says what is not so."""


def expect(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition, read as in assert
    """Raise AssertionError with the sentence unless it holds; ``assert`` itself is gone under ``python -O``."""
    if not holds:
        raise AssertionError(otherwise)
