"""The transport signs a request right before it sends it: the request is the same for each attempt, the time isn't."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mail.providers.amazon_ses import AmazonSes
from mail.providers.base import HttpRequest
from tests.support.providers.sample import EMAIL
from tests.support.stack import LOOPBACK
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing


@asynccontextmanager
async def recording() -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    """A server that remembers the headers of what it gets."""
    heads: list[dict[str, str]] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
        lines = [line.partition(": ") for line in head.split("\r\n")[1:] if line]
        heads.append({name.lower(): value for name, _, value in lines})
        await reader.readexactly(int(heads[-1].get("content-length", "0")))
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 19\r\nConnection: close\r\n\r\n{"MessageId": "01"}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
        await server.wait_closed()


@dataclass(frozen=True, slots=True)
class _Clock:
    """Signs with the time alone, and remembers it."""

    times: list[datetime] = field(default_factory=list)

    def sign(self, request: HttpRequest, now: datetime) -> Mapping[str, str]:
        self.times.append(now)
        return {"x-signed-at": now.isoformat()}


async def test_each_attempt_is_signed_with_its_own_time() -> None:
    clock = _Clock()
    async with recording() as (url, heads), HttpTransport(Outgoing(LOOPBACK)) as http:
        request = HttpRequest("POST", url, {"x-kept": "1"}, b"body", clock)
        for _ in range(2):
            await http.send(request)
    assert [head["x-signed-at"] for head in heads] == [time.isoformat() for time in clock.times]
    assert [head["x-kept"] for head in heads] == ["1", "1"]
    assert clock.times[0] < clock.times[1]
    assert all(abs(datetime.now(UTC) - time) < timedelta(minutes=1) for time in clock.times)


async def test_what_amazon_gets_is_what_was_signed() -> None:
    """The host that the transport writes is the one in the signature, or AWS would refuse it."""
    credentials = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret", "region": "eu-west-1"}
    async with recording() as (url, heads), HttpTransport(Outgoing(LOOPBACK)) as http:
        request = AmazonSes().send_request(EMAIL, {**credentials, "base_url": url})
        await http.send(request)
    (head,) = heads
    assert request.signer is not None
    then = datetime.strptime(head["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    assert head["host"] == url.removeprefix("http://")
    assert (head["accept"], head["content-type"]) == ("application/json", "application/json")
    assert request.signer.sign(request, then)["authorization"] == head["authorization"]
