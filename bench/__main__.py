"""`python -m bench [PART ...]`: fills a database, measures, prints tables, draws a picture. QUICK=1 for a short run.

The parts of a run are in `PARTS`; `footprint`, `scale` and `flames` are runs of their own.
"""

import asyncio
import os
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from rich.console import Console

from bench import applying, flames, footprint, live, picking_up, reads, report, scale, sending, webhooks
from bench.figures import Benchmark
from bench.stage import Stage, stage

Part = Callable[[Stage], Awaitable[Sequence[Benchmark]]]

PARTS: Final[Mapping[str, Part]] = {
    "tab": reads.tab,
    "pages": reads.pages,
    "webhook": webhooks.run,
    "live": live.run,
    "jobs": picking_up.run,
    "apply": applying.run,
    "send": sending.run,
}
_ALONE: Final = {"footprint": footprint.main, "scale": scale.main, "flames": flames.main}


async def measure(console: Console, names: Sequence[str], *, quick: bool) -> int:
    """Runs the parts; 1 when one failed, an answer was wrong or something stored is missing."""
    found: list[Benchmark] = []
    failed: list[str] = []
    took: dict[str, float] = {}
    began = time.perf_counter()
    async with stage(quick=quick) as standing:
        stated = await report.conditions(standing.servers.database_url)
        stated |= {"messages": standing.messages, "quick": quick}
        report.show_conditions(console, stated)
        took["set-up"] = time.perf_counter() - began
        for name in names:
            began = time.perf_counter()
            try:
                benchmarks = await PARTS[name](standing)
            except Exception as error:  # the other parts are measured all the same
                traceback.print_exception(error)
                failed.append(name)
                continue
            finally:
                took[name] = time.perf_counter() - began
            for benchmark in benchmarks:
                report.show(console, benchmark)
            found += benchmarks
    stated["load_after"] = report.load_average()
    report.show_summary(console, found)
    report.save(console, stated | {"seconds": took}, found)
    parts = ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items())
    console.print(f"It took {sum(took.values()):.0f} s: {parts}.")
    for name in failed:
        console.print(f"[red]{name} failed; see above")
    return int(bool(failed) or any(benchmark.wrong for benchmark in found))


def main() -> int:
    names = sys.argv[1:]
    quick = os.environ.get("QUICK", "") not in {"", "0"}
    console = Console(width=max(150, Console().width), highlight=False)
    if names and names[0] in _ALONE:
        return asyncio.run(_ALONE[names[0]](console, names[1:], quick=quick))
    if unknown := [name for name in names if name not in PARTS]:
        console.print(f"No part {', '.join(unknown)}; there are {', '.join([*PARTS, *_ALONE])}.")
        return 2
    return asyncio.run(measure(console, names or list(PARTS), quick=quick))


if __name__ == "__main__":
    sys.exit(main())
