"""Working: a worker until told to stop."""

import asyncio
import contextlib
import signal

import uvloop

from carepost.config import Settings
from carepost.supervised import on_end_of_stdin
from workers.main import run_worker


def serve_worker(settings: Settings) -> None:
    """Works until SIGTERM, SIGINT, or the end of a supervisor's pipe."""

    async def work() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)

        def leave() -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(stop.set)

        on_end_of_stdin(leave)
        await run_worker(settings.worker(), stop)

    uvloop.run(work())
