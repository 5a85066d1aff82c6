"""Where connections may go: to the internet, and to the networks that the operator names.

Hosts of mail servers and ESPs are typed in by administrators of practices, who have no business in our own network. The
address is checked after it is resolved, and the connection is made to just that address, so that a name which resolves
to another one a moment later gains nothing.
"""

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

import httpcore2
import httpx2

from mail.failure import Failure, FailureKind
from workers.errors import TransportRefused

Network = IPv4Network | IPv6Network

_NAT64: Final = ip_network("64:ff9b::/96")  # RFC 6052
_PROTOCOL_ASSIGNMENTS: Final = ip_network("192.0.0.0/24")  # RFC 6890; Python 3.11 calls parts of it global
_LOCAL_NAT64: Final = ip_network("64:ff9b:1::/48")  # RFC 8215


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Which addresses are reached: all that are global (RFC 6890), and those in `allowed`."""

    allowed: Sequence[Network] = ()

    async def addresses(self, host: str, port: int) -> Sequence[str]:
        """The addresses of a host, in the resolver's order; raises `TransportRefused` when one of them is forbidden,
        and `OSError` when there is none."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for address in addresses:
            if not self.allows(address):
                raise TransportRefused(
                    Failure(
                        FailureKind.ACCOUNT,
                        reason=f"{host} is {address}, which is in no network that emails may go to. "
                        "The operator can allow it by CAREPOST_ALLOWED_NETWORKS.",
                    )
                )
        return addresses

    def allows(self, address: str) -> bool:
        """Whether an address, without a port, may be connected to."""
        parsed = ip_address(address.partition("%")[0])
        if any(parsed.version == network.version and parsed in network for network in self.allowed):
            return True
        inner = _inner(parsed)
        if inner is not None:
            return self.allows(str(inner))
        return parsed.is_global and not parsed.is_multicast and parsed not in _PROTOCOL_ASSIGNMENTS

    async def connect(self, host: str, port: int) -> socket.socket:
        """A connected, non-blocking socket; raises `TransportRefused` and `OSError`."""
        loop = asyncio.get_running_loop()
        problem: OSError | None = None
        for address in await self.addresses(host, port):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            connection = socket.socket(family, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_connect(connection, (address, port))
            except OSError as error:
                connection.close()
                problem = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise problem or OSError(f"{host} has no address")


class CheckedBackend(httpcore2.AsyncNetworkBackend):
    """The network as an HTTP client sees it, which ends where `Outgoing` says."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._inner = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        problem: Exception = httpcore2.ConnectError(f"{host} has no address")
        try:
            addresses = await self._outgoing.addresses(host, port)
        except OSError as error:
            raise httpcore2.ConnectError(f"{host} could not be resolved") from error
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                problem = error
        raise problem

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None
    ) -> httpcore2.AsyncNetworkStream:
        raise httpcore2.ConnectError("no Unix sockets")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def checked_transport(outgoing: Outgoing, limits: httpx2.Limits) -> httpx2.AsyncHTTPTransport:
    """httpx2's transport over the checked network. TLS is verified, 1.2 at least."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    transport = httpx2.AsyncHTTPTransport(verify=context, limits=limits, trust_env=False)
    # httpx2 has no parameter for the network, the pool that it is made of has one.
    transport._pool = httpcore2.AsyncConnectionPool(  # noqa: SLF001
        ssl_context=context,
        max_connections=limits.max_connections,
        max_keepalive_connections=limits.max_keepalive_connections,
        keepalive_expiry=limits.keepalive_expiry,
        network_backend=CheckedBackend(outgoing),
    )
    return transport


def _inner(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 one stands for; None for any other."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address in _NAT64 or address in _LOCAL_NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return None
