"""What holds for every test: deterministic properties in CI, and no skips anywhere."""

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# A shared machine makes any deadline flaky. CI draws the same examples every time; elsewhere new ones are welcome.
settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Turn the skip of a whole module into an error: a test that did not run has shown nothing."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = _no_skips(report.longrepr)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip, or an expected failure, into a failure."""
    report = yield
    if report.skipped:
        report.outcome = "failed"
        report.longrepr = _no_skips(report.longrepr)
    return report


def _no_skips(reason: object) -> str:
    return f"skipped or expected to fail; every test must run and pass: {reason}"
