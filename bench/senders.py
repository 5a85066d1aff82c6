"""Senders that store nothing, each a process: `python -m bench.senders NAME PORT COUNT` prints seconds.

`transport` is Carepost's own, `pipeline` aiosmtplib with kept-open connections and bytes that are ready, `stock` a
connection and an EmailMessage for each email. All have four emails in hand.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from ipaddress import ip_network
from uuid import UUID

import aiosmtplib
import uvloop

from bench.emails import HTML, SENDER, SUBJECT, TEXT, recipient
from mail.ids import MessageId
from mail.message import Address, Email
from mail.mime import render
from mail.servers import Security, SmtpServer
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing
from workers.transports.smtp import SmtpTransport

_AT_ONCE = 4


def _email(number: int, date: datetime) -> Email:
    return Email(
        id=MessageId(UUID(int=number)),
        sender=Address(SENDER, "Northgate Practice"),
        recipient=Address(recipient(number), f"Pat Example {number}"),
        subject=SUBJECT,
        text=TEXT,
        html=HTML,
        date=date,
    )


async def _four(count: int, send: Callable[[int, int], Awaitable[object]]) -> None:
    """`send(line, number)` for every number, four lines at once."""
    numbers: Iterator[int] = iter(range(count))

    async def line(which: int) -> None:
        for number in numbers:
            await send(which, number)

    await asyncio.gather(*(line(which) for which in range(_AT_ONCE)))


async def transport(port: int, count: int) -> float:
    outgoing = Outgoing((ip_network("127.0.0.0/8"),))
    server = SmtpServer("127.0.0.1", port, Security.NONE)
    date = datetime.now(UTC)
    async with HttpTransport(outgoing) as http, SmtpTransport(http, outgoing) as smtp:

        async def send(_: int, number: int) -> None:
            await smtp.send(server, _email(number, date), within=timedelta(seconds=54))

        started = time.perf_counter()
        await _four(count, send)
        return time.perf_counter() - started


async def pipeline(port: int, count: int) -> float:
    date = datetime.now(UTC)
    ready = [render(_email(number, date)) for number in range(count)]
    started = time.perf_counter()
    clients = [aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False) for _ in range(_AT_ONCE)]
    for client in clients:
        await client.connect()

    async def send(line: int, number: int) -> None:
        await clients[line].mail(SENDER)
        await clients[line].rcpt(recipient(number))
        await clients[line].data(ready[number])

    await _four(count, send)
    return time.perf_counter() - started


async def stock(port: int, count: int) -> float:
    async def send(_: int, number: int) -> None:
        message = EmailMessage()
        message["From"] = f"Northgate Practice <{SENDER}>"
        message["To"] = f"Pat Example {number} <{recipient(number)}>"
        message["Subject"] = SUBJECT
        message.set_content(TEXT)
        message.add_alternative(HTML, subtype="html")
        await aiosmtplib.send(message, hostname="127.0.0.1", port=port, start_tls=False)

    started = time.perf_counter()
    await _four(count, send)
    return time.perf_counter() - started


if __name__ == "__main__":
    _name, _port, _count = sys.argv[1:]
    print(uvloop.run({"transport": transport, "pipeline": pipeline, "stock": stock}[_name](int(_port), int(_count))))
