"""One run for all tests of this folder, and what it measured at the end of the output."""

from collections.abc import Iterator

import pytest

from tests.node.play import Outcome, played
from tests.node.scenarios import SCENARIOS

_MEASURED = pytest.StashKey[Outcome]()


@pytest.fixture(scope="session")
def outcome(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Outcome]:
    with played(tmp_path_factory.mktemp("node")) as seen:
        request.config.stash[_MEASURED] = seen
        yield seen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    seen = config.stash.get(_MEASURED, None)
    if seen is None:
        return
    terminalreporter.section("seconds from the fault until it was pending, until it fired, and until the report arrived")
    causes = {each.name: each.cause for each in SCENARIOS}
    for name, delays in sorted(seen.delays().items(), key=lambda each: each[1].firing_s):
        terminalreporter.write_line(
            f"{name:<18} {causes[name] or 'none':<20} {delays.pending_s:6.1f} {delays.firing_s:6.1f} {delays.told_s:6.1f}"
        )
