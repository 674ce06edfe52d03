"""What all tests share: reproducible hypothesis runs, and a gate on skipped tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("deterministic", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("deterministic")

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name every skipped test that `allowed_skips.txt` does not list."""
    for node in _unlisted_skips(terminalreporter):
        terminalreporter.write_line(f"skipped without being listed in {ALLOWED_SKIPS.name}: {node}", red=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which an unlisted test was skipped: a skipped check is a check that cannot fail."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.exitstatus == pytest.ExitCode.OK and reporter is not None and _unlisted_skips(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _unlisted_skips(reporter: pytest.TerminalReporter) -> list[str]:
    listed = {
        line.split("#")[0].strip() for line in ALLOWED_SKIPS.read_text().splitlines() if line.split("#")[0].strip()
    }
    return sorted({report.nodeid for report in reporter.stats.get("skipped", [])} - listed)
