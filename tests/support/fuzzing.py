"""How many inputs fuzzers and differential tests make: CAREPOST_FUZZ times as many as in every run (`make fuzz`).

As a plugin of pytest (`-p tests.support.fuzzing`) it says at the end how many were tried.
"""

import os
import re
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

TIMES = int(os.environ.get("CAREPOST_FUZZ", "1"))
TRIED = "inputs tried"
_tried: Counter[str] = Counter()


def examples(few: int) -> int:
    """Of `few` in every run."""
    return few * TIMES


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Hypothesis tells what it tried to the process that ran the test alone; here it goes to the one that counts."""
    report = yield
    if report.when == "call" and (statistics := getattr(item, "hypothesis_statistics", "")):
        count = sum(map(int, re.findall(r"(\d+) passing", statistics)))
        report.user_properties.append((TRIED, count))
    return report


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call":
        path, _, name = report.nodeid.partition("::")
        for kind, count in report.user_properties:
            if kind == TRIED:
                _tried[f"{Path(path).stem}: {name.partition('[')[0]}"] += int(str(count))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.section("inputs tried")
    for name, count in sorted(_tried.items()):
        terminalreporter.write_line(f"{count:>9,}  {name}")
    terminalreporter.write_line(f"{sum(_tried.values()):>9,}  in all")
