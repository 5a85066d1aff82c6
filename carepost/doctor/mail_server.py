"""A practice's own mail server: connects, encrypts, signs in. No email is sent."""

from collections.abc import Mapping, Sequence
from typing import Final

from carepost.doctor.checks import Check, failed, ok, warning
from mail.errors import CredentialsIncomplete
from mail.failure import FailureKind
from mail.servers import Security, smtp_server
from mail.status import AccountKind
from workers.errors import TransportError
from workers.transports.smtp import SmtpTransport

_SMALL: Final = 2_000_000
_LIMITS: Final = {"8bitmime": "8BITMIME", "smtputf8": "SMTPUTF8", "pipelining": "PIPELINING", "chunking": "CHUNKING"}


async def check_mail_server(smtp: SmtpTransport, kind: AccountKind, credentials: Mapping[str, str]) -> Sequence[Check]:
    """What an email would meet on its way to the server."""
    try:
        server = smtp_server(kind, credentials)
    except CredentialsIncomplete as error:
        return [failed("Credentials", f"{error.field}: {error}")]
    found = [ok("Credentials", "Complete.")]
    where = f"{server.host}:{server.port}"
    try:
        offer = await smtp.probe(server)
    except TransportError as error:
        name = "Sign-in" if error.failure.kind is FailureKind.ACCOUNT else "Connection"
        return [*found, failed(name, f"{where}: {error.failure.reason}")]
    if server.security is Security.NONE:
        found.append(warning("Connection", f"{where} answers, without encryption: for a server on this machine alone."))
    else:
        found.append(ok("Connection", f"{where} answers, encrypted by {server.security.name}."))
    if server.username:
        found.append(ok("Sign-in", "The server takes the user and password or token."))
    else:
        found.append(warning("Sign-in", "None: the server takes emails from whoever can reach it."))
    offers = ", ".join(label for name, label in _LIMITS.items() if name in offer.extensions) or "no extensions"
    if offer.size is not None and offer.size < _SMALL:
        found.append(warning("Limits", f"It takes emails of up to {offer.size:,} bytes only; {offers}."))
    else:
        found.append(ok("Limits", f"{f'{offer.size:,} bytes' if offer.size else 'no limit'} an email; {offers}."))
    return found
