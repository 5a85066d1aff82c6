"""An email as bytes for an SMTP server: RFC 5322 headers, RFC 2045 bodies."""

from email.headerregistry import Address as HeaderAddress
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

from mail.message import Address, Email

_POLICY = SMTP.clone(max_line_length=76, raise_on_defect=True)


def render(email: Email) -> bytes:
    """The whole email, CRLF line ends, 7-bit: quoted-printable or base64 bodies and RFC 2047 headers.

    Addresses with a non-ASCII local part need SMTPUTF8 (RFC 6531); they are rendered as UTF-8.
    """
    needs_utf8 = any(
        not address.email.isascii() for address in (email.sender, email.recipient, email.reply_to or email.sender)
    )
    message = EmailMessage(_POLICY.clone(utf8=True) if needs_utf8 else _POLICY)
    message["From"] = _header(email.sender)
    message["To"] = _header(email.recipient)
    if email.reply_to:
        message["Reply-To"] = _header(email.reply_to)
    message["Subject"] = email.subject
    message["Date"] = format_datetime(email.date)
    message["Message-ID"] = email.rfc_message_id
    # RFC 3834 section 5: keeps other people's auto-responders from answering.
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(email.text, cte=_encoding(email.text))
    if email.html is not None:
        message.add_alternative(email.html, subtype="html", cte=_encoding(email.html))
        # RFC 2046 section 5.1.1: the boundary must not occur in a part. A fixed one per message also
        # makes every attempt's bytes the same.
        message.set_boundary(f"=_{email.id.hex}")
    return message.as_bytes()


def _header(address: Address) -> HeaderAddress:
    local, _, domain = address.email.rpartition("@")
    return HeaderAddress(address.name, local, domain)


def _encoding(body: str) -> str:
    """Quoted-printable keeps mostly-ASCII text readable in transit; base64 is shorter for the rest."""
    foreign = sum(not character.isascii() for character in body[:4096])
    return "base64" if foreign * 4 > len(body[:4096]) else "quoted-printable"
