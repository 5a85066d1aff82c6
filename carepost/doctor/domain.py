"""Hints on the From domain: SPF (RFC 7208), DKIM (RFC 6376 section 3.6.2) and DMARC (RFC 7489 section 6.6.3).

They are hints alone: a Return-Path of the ESP's own needs no SPF here, and selectors may have other names.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.resolver

from carepost.doctor.checks import Check, ok, warning
from mail.providers.base import SetUp

_MOST_LOOKUPS: Final = 10  # RFC 7208 section 4.6.4
_SECONDS: Final = 5.0


class Unanswered(Exception):
    """The resolver could not be asked, or didn't answer in time."""


class Records:
    """Asks the machine's resolver, or the one named: `127.0.0.1` or `127.0.0.1:5353`."""

    def __init__(self, server: str | None = None) -> None:
        self._resolver = dns.asyncresolver.Resolver(configure=server is None)
        self._resolver.lifetime = _SECONDS
        if server is not None:
            host, _, port = server.partition(":")
            self._resolver.nameservers = [host]
            self._resolver.port = int(port or 53)

    async def texts(self, name: str) -> Sequence[str]:
        """The TXT records of a name, through CNAMEs; empty when there is none. Raises `Unanswered`."""
        try:
            answer = await self._resolver.resolve(name, "TXT")
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except (dns.exception.DNSException, OSError) as error:
            raise Unanswered(type(error).__name__) from error
        return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]


async def check_domain(records: Records, domain: str, label: str, set_up: SetUp | None) -> Sequence[Check]:
    """Hints on a From domain; `set_up` says what the ESP wants there, None for Gmail and SMTP."""
    try:
        found = [await _dmarc(records, domain)]
        if set_up is not None and set_up.spf:
            found.append(await _spf(records, domain, label, set_up.spf))
        if set_up is not None and set_up.dkim:
            found.append(await _dkim(records, domain, label, set_up.dkim))
    except Unanswered as error:
        return [
            warning("From domain", f"DNS could not be asked about {domain} ({error}); its records are not checked.")
        ]
    return found


async def _spf(records: Records, domain: str, label: str, include: str) -> Check:
    if await _includes(records, domain, include):
        return ok("SPF", f"{domain} includes {include}.")
    return warning(
        "SPF",
        f"The SPF record of {domain} doesn't include {include}. Add include:{include} to it, unless {label} "
        "has you use a Return-Path domain instead.",
    )


async def _includes(records: Records, domain: str, wanted: str) -> bool:
    """Whether a domain's SPF record includes another's, directly or by way of others."""
    pending, seen = [domain], set[str]()
    while pending and len(seen) < _MOST_LOOKUPS:
        name = pending.pop(0)
        if name in seen:
            continue
        seen.add(name)
        for record in await records.texts(name):
            if record.lower().split(" ")[0] != "v=spf1":
                continue
            for term in record.lower().split():
                target = term.lstrip("+").removeprefix("include:").removeprefix("redirect=")
                if target == wanted.lower():
                    return True
                if term.lstrip("+").startswith(("include:", "redirect=")) and "%" not in target:
                    pending.append(target)
    return False


async def _dkim(records: Records, domain: str, label: str, selectors: Sequence[str]) -> Check:
    missing = [selector for selector in selectors if not await records.texts(f"{selector}._domainkey.{domain}")]
    if not missing:
        return ok("DKIM", f"{domain} has the selectors {', '.join(selectors)}.")
    names = ", ".join(f"{selector}._domainkey.{domain}" for selector in missing)
    return warning("DKIM", f"There is no key at {names}. Add the records that {label} shows for the domain.")


async def _dmarc(records: Records, domain: str) -> Check:
    for name in _upwards(domain):
        for record in await records.texts(f"_dmarc.{name}"):
            if record.replace(" ", "").lower().startswith("v=dmarc1"):
                return ok("DMARC", f"{name} has a DMARC record.")
    return warning(
        "DMARC", f"{domain} has no DMARC record. Add a TXT record at _dmarc.{domain}, to begin with: v=DMARC1; p=none"
    )


def _upwards(domain: str) -> Iterator[str]:
    """The domain and those above it, down to two labels: its policy may stand at its organisation's."""
    labels = domain.split(".")
    for start in range(max(1, len(labels) - 1)):
        yield ".".join(labels[start:])
