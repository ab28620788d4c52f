"""``python -m benchmarks [decide | policies] …``: what a decision costs, or how good policies are."""

from __future__ import annotations

import sys

SUITES = ("decide", "policies")


def main(arguments: list[str]) -> None:
    """Run the suite that is named first; ``decide`` if none is."""
    name, rest = (arguments[0], arguments[1:]) if arguments and arguments[0] in SUITES else ("decide", arguments)
    if name == "policies":
        from benchmarks import policies

        policies.main(rest)
    else:
        from benchmarks import decide

        decide.main(rest)


if __name__ == "__main__":
    main(sys.argv[1:])
