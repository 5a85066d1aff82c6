"""Runs a module as `python -m` does, by a wall clock that is wrong, and that can be set while it runs.

    python -m tests.faults.clocked FD SECONDS MODULE ARGUMENTS...

SECONDS is how far the clock is ahead at the start; each line that comes along the pipe FD says it anew. What is wrong
is the time that Python tells (`time.time`, `datetime.now`, `time.gmtime` ...). The monotonic clock goes on as ever, as
it does where a machine's clock is set.
"""

import os
import runpy
import sys
from datetime import UTC, datetime, timedelta
from threading import Thread

import time_machine


def main() -> None:
    """Becomes the module; raises what it raises."""
    pipe, ahead = int(sys.argv[1]), float(sys.argv[2])
    clock = time_machine.travel(datetime.now(UTC) + timedelta(seconds=ahead), tick=True).start()

    def follow() -> None:
        now = ahead
        with os.fdopen(pipe) as lines:
            for line in lines:
                clock.shift(float(line) - now)
                now = float(line)

    Thread(target=follow, daemon=True, name="clock").start()
    sys.argv = sys.argv[3:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
