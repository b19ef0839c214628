"""Imports the handlers and says at the end which golden cases passed and which are not covered."""

import importlib
from pathlib import Path

import pytest

for _module in sorted(Path(__file__).parent.glob("*_*.py")):
    if not _module.stem.startswith("test_"):
        importlib.import_module(f".{_module.stem}", __package__)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List the golden cases by name: passed, and not yet covered."""
    marker = "test_parity.py::test_golden["
    passed = sorted(
        report.nodeid.split(marker)[1].rstrip("]")
        for report in terminalreporter.stats.get("passed", [])
        if marker in report.nodeid
    )
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = (
        r.longrepr[2] for r in skipped if marker in r.nodeid and isinstance(r.longrepr, tuple)
    )
    not_yet = sorted(reason.removeprefix("Skipped: ") for reason in reasons)
    if passed or not_yet:
        terminalreporter.section(f"golden parity: {len(passed)} passed, {len(not_yet)} not run")
        for name in passed:
            terminalreporter.write_line(f"passed   {name}")
        for reason in not_yet:
            terminalreporter.write_line(f"skipped  {reason}")
