"""A DNS server on this machine that answers for the names it is given, and NXDOMAIN for all others."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class _Server(asyncio.DatagramProtocol):
    def __init__(self, texts: Mapping[str, Sequence[str]]) -> None:
        self._texts = texts

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        name = question.question[0].name
        answer = dns.message.make_response(question)
        answer.flags |= dns.flags.RA
        found = self._texts.get(name.to_text(omit_final_dot=True))
        if found is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *(f'"{text}"' for text in found)))
        self._transport.sendto(answer.to_wire(), addr)


@contextlib.asynccontextmanager
async def answering(texts: Mapping[str, Sequence[str]]) -> AsyncIterator[str]:
    """Gives the server's address and port."""
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: _Server(texts), local_addr=("127.0.0.1", 0))
    try:
        yield f"127.0.0.1:{transport.get_extra_info('sockname')[1]}"
    finally:
        transport.close()
