"""Connections go to the internet and to the networks that the operator names, whatever an administrator typed in."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest

from mail.failure import FailureKind
from mail.providers.base import HttpRequest
from mail.servers import Security, SmtpServer
from mail.status import AccountKind
from tests.integration.workers.sending import OFTEN, Desk, an_email
from tests.support.stack import LOOPBACK
from workers.errors import TransportAmbiguous, TransportRefused, TransportUnavailable
from workers.transports.http import HttpTransport
from workers.transports.outgoing import Outgoing
from workers.transports.smtp import SmtpTransport

FORBIDDEN = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "192.0.0.8",
    "198.18.0.1",
    "203.0.113.5",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::a00:1",
    "2002:7f00:1::",
    "2002:a00:1::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "ff02::1",
    "2001:db8::1",
]
ALLOWED = ["8.8.8.8", "1.1.1.1", "52.94.133.131", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("address", FORBIDDEN)
def test_no_address_of_a_network_of_ours_is_allowed(address: str) -> None:
    assert not Outgoing().allows(address)


@pytest.mark.parametrize("address", ALLOWED)
def test_the_internet_is_allowed(address: str) -> None:
    assert Outgoing().allows(address)


def test_what_the_operator_names_is_allowed_and_nothing_beside_it() -> None:
    outgoing = Outgoing((ip_network("192.168.7.0/24"), ip_network("fd00:7::/64")))
    assert [outgoing.allows(a) for a in ("192.168.7.9", "::ffff:192.168.7.9", "fd00:7::9")] == [True] * 3
    assert [outgoing.allows(a) for a in ("192.168.8.9", "::ffff:192.168.8.9", "fd00:8::9", "127.0.0.1")] == [False] * 4


@dataclass
class Trap:
    """A listener that counts who comes."""

    port: int
    came: int = 0


@asynccontextmanager
async def trap() -> AsyncIterator[Trap]:
    found = Trap(0)

    async def come(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        found.came += 1
        writer.close()

    server = await asyncio.start_server(come, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


def resolving(*answers: Sequence[str]) -> Callable[..., Any]:
    """A resolver whose answers change: each list once, the last for good."""
    left = list(answers)

    async def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
        addresses = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return getaddrinfo


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::1]", "[::ffff:127.0.0.1]", "0"]
)
async def test_no_connection_leaves_for_this_machine_however_it_is_written(host: str) -> None:
    async with trap() as listener, HttpTransport(Outgoing()) as http, SmtpTransport(http, Outgoing()) as smtp:
        with pytest.raises((TransportRefused, TransportUnavailable)):
            await http.send(HttpRequest("GET", f"http://{host}:{listener.port}/", {}, b""))
        server = SmtpServer(host.strip("[]"), listener.port, Security.NONE)
        with pytest.raises((TransportRefused, TransportUnavailable)):
            await smtp.send(server, an_email(), within=timedelta(seconds=5))
    assert listener.came == 0


async def test_a_name_that_resolves_to_this_machine_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with trap() as listener, HttpTransport(Outgoing()) as http, SmtpTransport(http, Outgoing()) as smtp:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", resolving(["127.0.0.1"]))
        with pytest.raises(TransportRefused) as refused:
            await http.send(HttpRequest("GET", f"http://esp.example:{listener.port}/", {}, b""))
        assert refused.value.failure.kind is FailureKind.ACCOUNT
        assert refused.value.failure.reason.startswith("esp.example is 127.0.0.1,")
        assert "CAREPOST_ALLOWED_NETWORKS" in refused.value.failure.reason
        server = SmtpServer("mx.example", listener.port, Security.NONE)
        with pytest.raises(TransportRefused):
            await smtp.send(server, an_email(), within=timedelta(seconds=5))
        # One good address among the answers is no cover for a bad one.
        monkeypatch.setattr(loop, "getaddrinfo", resolving(["8.8.8.8", "127.0.0.1"]))
        with pytest.raises(TransportRefused):
            await http.send(HttpRequest("GET", f"http://esp.example:{listener.port}/", {}, b""))
    assert listener.came == 0


async def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: the second look-up would say otherwise, and there is none."""
    outgoing = Outgoing((ip_network("127.0.0.1/32"),))
    async with trap() as good, trap() as evil, HttpTransport(outgoing) as http:
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "getaddrinfo", resolving(["127.0.0.1"], ["10.0.0.1"]))
        with pytest.raises(TransportAmbiguous):  # the trap takes the connection and says nothing
            await http.send(HttpRequest("GET", f"http://esp.example:{good.port}/", {}, b""))
        assert (good.came, evil.came) == (1, 0)
        with pytest.raises(TransportRefused):
            await http.send(HttpRequest("GET", f"http://esp.example:{good.port}/", {}, b""))
        assert (good.came, evil.came) == (1, 0)


async def test_no_redirect_is_followed() -> None:
    async with trap() as inner:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            place = f"http://127.0.0.1:{inner.port}/".encode()
            writer.write(b"HTTP/1.1 302 Found\r\nlocation: " + place + b"\r\ncontent-length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(redirect, "127.0.0.1", 0)
        async with server, HttpTransport(Outgoing(LOOPBACK)) as http:
            port = server.sockets[0].getsockname()[1]
            answer = await http.send(HttpRequest("POST", f"http://127.0.0.1:{port}/", {}, b"key"))
        assert answer.status == 302
    assert inner.came == 0


async def test_an_account_that_points_at_this_machine_says_so_on_the_message(desk: Desk) -> None:
    async with trap() as listener:
        account = await desk.account(AccountKind.SMTP, host="127.0.0.1", port=str(listener.port), security="none")
        await desk.stack.worker(sweep_interval=OFTEN, allowed_networks=())
        message = await desk.reaches(await desk.write(account), "FAILED")
    assert message["failure"]["kind"] == "ACCOUNT"
    assert message["failure"]["reason"].startswith("127.0.0.1 is 127.0.0.1, which is in no network")
    assert message["explanation"]["code"] == "REFUSED"
    assert listener.came == 0
