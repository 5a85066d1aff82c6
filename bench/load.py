"""The load: the same for every server. A process of its own, raw sockets under uvloop, connections kept alive.

`python -m bench.load PORT` reads one `Load` as JSON from stdin and prints one `Measured` as JSON. Every connection
sends a request, waits for the whole answer, and sends the next: closed loop, so a slower server is asked less.
"""

import asyncio
import dataclasses
import gc
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import httptools
import uvloop


@dataclass(frozen=True, slots=True)
class Load:
    """`requests` are whole HTTP/1.1 requests, taken in turn. An answer is good when it is 200 and its body has
    `least` bytes at least."""

    requests: Sequence[str]
    connections: int
    seconds: float
    warm_up: float
    least: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """`answered`, latencies (milliseconds) and bytes are of the measured time; `good`, `bad` and the processor times
    (microseconds for each answer; 0 where the system doesn't tell) of the warm-up and the end too."""

    seconds: float
    answered: int
    p50: float
    p99: float
    good: int
    bad: int
    bytes_each: float
    server_cpu: float = 0
    postgres_cpu: float = 0

    @property
    def rate(self) -> float:
        return self.answered / self.seconds


class _Run:
    """What the connections of one load share."""

    def __init__(self, load: Load) -> None:
        self.requests = [request.encode() for request in load.requests]
        self.least = load.least
        self.next = 0
        self.stopping = False
        self.measuring = False
        self.latencies: list[float] = []
        self.good = self.bad = self.bytes = 0

    def take(self) -> bytes:
        request = self.requests[self.next % len(self.requests)]
        self.next += 1
        return request


class _Client(asyncio.Protocol):
    """One connection."""

    def __init__(self, run: _Run) -> None:
        self._run = run
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self._parser = httptools.HttpResponseParser(self)
        self._send()

    def _send(self) -> None:
        self._length = 0
        self._started = time.perf_counter()
        self._transport.write(self._run.take())

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._length += len(body)

    def on_message_complete(self) -> None:
        run = self._run
        if self._parser.get_status_code() == 200 and self._length >= run.least:
            run.good += 1
        else:
            run.bad += 1
        if run.measuring:
            run.latencies.append(time.perf_counter() - self._started)
            run.bytes += self._length
        if run.stopping:
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._run.stopping:
            self._run.bad += 1
        if not self.done.done():
            self.done.set_result(None)


async def apply(load: Load, port: int) -> Measured:
    """Puts the load on the server at a port."""
    run = _Run(load)
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: _Client(run), "127.0.0.1", port))[1] for _ in range(load.connections)
    ]
    await asyncio.sleep(load.warm_up)
    started, run.measuring = time.perf_counter(), True
    await asyncio.sleep(load.seconds)
    seconds, run.measuring = time.perf_counter() - started, False
    run.stopping = True
    await asyncio.wait_for(asyncio.gather(*(client.done for client in clients)), 30)
    latencies = sorted(run.latencies) or [float("nan")]
    return Measured(
        seconds=seconds,
        answered=len(run.latencies),
        p50=1000 * latencies[len(latencies) // 2],
        p99=1000 * latencies[int(len(latencies) * 0.99)],
        good=run.good,
        bad=run.bad,
        bytes_each=run.bytes / max(1, len(run.latencies)),
    )


def post(path: str, body: bytes, headers: dict[str, str]) -> str:
    """A whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines) + "\r\n\r\n" + body.decode()


def main() -> None:
    load = Load(**json.load(sys.stdin))
    gc.disable()
    print(json.dumps(dataclasses.asdict(uvloop.run(apply(load, int(sys.argv[1]))))))


if __name__ == "__main__":
    main()
