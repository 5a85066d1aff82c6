"""Samples: memory and processor time of processes, as Linux tells them."""

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(slots=True)
class Samples:
    """What processes took, by their names; one that is started anew goes on under its name."""

    memory: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    """MiB at minutes, of the house's processes."""
    _used: dict[tuple[str, int], tuple[float, float]] = field(default_factory=dict)
    """Processor seconds of each process when it was first and last looked at."""
    _machine: list[tuple[float, float]] = field(default_factory=list)
    """At seconds, the processor seconds of the whole machine."""

    def take(self, at: float, pids: Mapping[str, int]) -> None:
        """Looks at the house, so many seconds after the start."""
        for name, pid in pids.items():
            if (resident := _resident(pid)) is not None:
                self.memory[name].append((at / 60, resident))
        self.take_clients(at, pids)

    def take_clients(self, at: float, pids: Mapping[str, int]) -> None:
        """Looks at processor times alone."""
        for name, pid in pids.items():
            if (used := _used(pid)) is not None:
                first, _ = self._used.get((name, pid), (used, used))
                self._used[name, pid] = first, used
        self._machine.append((at, _machine()))

    def growth(self) -> dict[str, str]:
        """MiB after a minute and at the end."""
        return {name: _ends(samples) for name, samples in self.memory.items()}

    def cores(self) -> dict[str, float]:
        """Cores that each used, and the machine: the rest of it are Postgres, Valkey, the sandbox and strangers."""
        (began, before), (ended, after) = self._machine[0], self._machine[-1]
        seconds = max(1.0, ended - began)
        sums: dict[str, float] = defaultdict(float)
        for (name, _), (first, last) in self._used.items():
            sums[name] += last - first
        return {name: round(sum_ / seconds, 2) for name, sum_ in (sums | {"machine": after - before}).items()}


def percentiles(seconds: Sequence[float]) -> str:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return "-"
    return f"{ordered[len(ordered) // 2] * 1000:.0f}, {ordered[int(len(ordered) * 0.99)] * 1000:.0f}"


def _ends(samples: Sequence[tuple[float, float]]) -> str:
    later = next((value for minute, value in samples if minute >= 1), samples[0][1])
    return f"{later:.0f}, {samples[-1][1]:.0f}"


def _resident(pid: int) -> float | None:
    """MiB, from /proc/PID/statm; None when it has just ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / (1 << 20)
    except (OSError, IndexError):
        return None


def _used(pid: int) -> float | None:
    """Processor seconds, from /proc/PID/stat; None when it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK
    except (OSError, IndexError):
        return None


def _machine() -> float:
    """Processor seconds of all cores that weren't idle, since the machine started."""
    numbers = [int(part) for part in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(numbers) - numbers[3] - numbers[4]) / _TICK
