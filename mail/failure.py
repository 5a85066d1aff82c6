"""Why an email was not accepted or came back, from the SMTP reply that says so.

Sources: RFC 5321 section 4.2 (replies), RFC 3463 and the IANA registry of enhanced status codes.
"""

import re
from dataclasses import dataclass
from enum import Enum


class FailureKind(Enum):
    """What stood in the way, in terms that decide what staff can do."""

    ADDRESS_UNKNOWN = "address_unknown"
    """The mailbox does not exist or was closed: ask the patient for a new address."""
    DOMAIN_UNKNOWN = "domain_unknown"
    """The part after the @ takes no mail: most often a typing error."""
    MAILBOX_FULL = "mailbox_full"
    """The patient's mailbox has no room left."""
    SPAM = "spam"
    """The destination took the content for spam."""
    REPUTATION = "reputation"
    """The destination distrusts our sending server: not the patient's fault."""
    AUTHENTICATION = "authentication"
    """The From domain failed SPF, DKIM or DMARC, or our credentials were refused."""
    SUPPRESSED = "suppressed"
    """The ESP keeps the address on its do-not-send list and never tried."""
    TOO_LARGE = "too_large"
    """The email is bigger than the destination takes."""
    POLICY = "policy"
    """The destination refuses such mail by a rule of its own."""
    UNREACHABLE = "unreachable"
    """No server answered for the address until we or the ESP gave up."""
    CONTENT = "content"
    """The email itself is malformed or can't be rendered."""
    ACCOUNT = "account"
    """The sending account is misconfigured, blocked or over its quota."""
    OTHER = "other"
    """None of the above is said."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One refusal: `smtp_code` as in RFC 5321 (550), `enhanced_code` as in RFC 3463 ("5.1.1"),
    `reason` as the server put it, on one line, at most 1,000 characters."""

    kind: FailureKind
    smtp_code: int | None = None
    enhanced_code: str | None = None
    reason: str = ""


# IANA "Enumerated Status Codes" (RFC 3463 section 3, RFC 7372, RFC 7505): subject.detail -> kind.
_ENHANCED: dict[str, FailureKind] = {
    "1.0": FailureKind.ADDRESS_UNKNOWN,
    "1.1": FailureKind.ADDRESS_UNKNOWN,
    "1.2": FailureKind.DOMAIN_UNKNOWN,
    "1.3": FailureKind.ADDRESS_UNKNOWN,
    "1.4": FailureKind.ADDRESS_UNKNOWN,
    "1.6": FailureKind.ADDRESS_UNKNOWN,
    "1.7": FailureKind.ACCOUNT,
    "1.8": FailureKind.AUTHENTICATION,
    "1.10": FailureKind.DOMAIN_UNKNOWN,
    "2.0": FailureKind.ADDRESS_UNKNOWN,
    "2.1": FailureKind.ADDRESS_UNKNOWN,
    "2.2": FailureKind.MAILBOX_FULL,
    "2.3": FailureKind.TOO_LARGE,
    "3.1": FailureKind.MAILBOX_FULL,
    "3.4": FailureKind.TOO_LARGE,
    "4.0": FailureKind.UNREACHABLE,
    "4.1": FailureKind.UNREACHABLE,
    "4.2": FailureKind.UNREACHABLE,
    "4.3": FailureKind.UNREACHABLE,
    "4.4": FailureKind.DOMAIN_UNKNOWN,
    "4.6": FailureKind.UNREACHABLE,
    "4.7": FailureKind.UNREACHABLE,
    "6.0": FailureKind.CONTENT,
    "6.1": FailureKind.CONTENT,
    "6.3": FailureKind.CONTENT,
    "7.0": FailureKind.POLICY,
    "7.1": FailureKind.POLICY,
    "7.8": FailureKind.AUTHENTICATION,
    "7.9": FailureKind.AUTHENTICATION,
    "7.20": FailureKind.AUTHENTICATION,
    "7.21": FailureKind.AUTHENTICATION,
    "7.22": FailureKind.AUTHENTICATION,
    "7.23": FailureKind.AUTHENTICATION,
    "7.24": FailureKind.AUTHENTICATION,
    "7.25": FailureKind.REPUTATION,
    "7.26": FailureKind.AUTHENTICATION,
    "7.27": FailureKind.AUTHENTICATION,
    "7.28": FailureKind.REPUTATION,
    # Microsoft's own ("Email non-delivery reports in Exchange Online"): only some may write to this mailbox.
    "7.124": FailureKind.POLICY,
    "7.129": FailureKind.POLICY,
    "7.133": FailureKind.POLICY,
    "7.134": FailureKind.POLICY,
}

# Servers put much into 5.7.1 and 5.0.0; there their words tell more than their code.
# First match wins, so the narrower wording stands above the wider.
_WORDING: tuple[tuple[re.Pattern[str], FailureKind], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), kind)
    for pattern, kind in (
        (r"gr[ae]y-?list|policy reasons", FailureKind.POLICY),
        (r"sending (limit|quota)|your account|outbound sender", FailureKind.ACCOUNT),
        (
            r"(mailbox|inbox) (is )?(full|out of storage)|over ?quota|quota exceeded|exceeded storage"
            r"|insufficient (system )?storage",
            FailureKind.MAILBOX_FULL,
        ),
        (
            r"dmarc|\bspf\b|dkim|unauthenticated|not authenticated|authentication (is )?required"
            r"|required authentication|starttls",
            FailureKind.AUTHENTICATION,
        ),
        (
            r"block ?list|black ?list|spamhaus|\brbl\b|dnsbl|reputation|poor history|senderscore|unusual rate"
            r"|unexpected volume|user complaints|banned sending|messages from .{0,60} weren't sent"
            r"|client host.{0,80}(blocked|rejected)|\bip\b.{0,80}(blocked|listed)",
            FailureKind.REPUTATION,
        ),
        (r"\bspam|unsolicited|bulk mail|junk", FailureKind.SPAM),
        (r"null ?mx|does not accept (e-?)?mail", FailureKind.DOMAIN_UNKNOWN),
        (
            r"(user|mailbox|recipient|address|account).{0,60}(unknown|not found|does ?n[o']t exist|no such"
            r"|disabled|inactive|unavailable|rejected)|no such (user|recipient|mailbox)|unknown (user|recipient)"
            r"|invalid (recipient|mailbox|address)|does ?n[o']t have an? .{0,60}account",
            FailureKind.ADDRESS_UNKNOWN,
        ),
        (
            r"(domain|host|\bmx\b).{0,40}(not found|unknown|does ?n[o']t exist)|unrouteable|no mx",
            FailureKind.DOMAIN_UNKNOWN,
        ),
        (r"(message|mail|size).{0,30}(too (big|large)|exceeds)", FailureKind.TOO_LARGE),
        (
            r"timed? ?out|timeout|unable to (connect|resolve)|connection refused|no route|expired",
            FailureKind.UNREACHABLE,
        ),
    )
)

# RFC 5321 section 4.2.3: what a bare reply code says of the recipient.
_SMTP: dict[int, FailureKind] = {
    452: FailureKind.MAILBOX_FULL,
    535: FailureKind.AUTHENTICATION,
    550: FailureKind.ADDRESS_UNKNOWN,
    551: FailureKind.ADDRESS_UNKNOWN,
    552: FailureKind.MAILBOX_FULL,
    553: FailureKind.ADDRESS_UNKNOWN,
    556: FailureKind.DOMAIN_UNKNOWN,
}

# 5.1.10 is RFC 7505's null MX and Microsoft's unknown recipient, 5.4.1 Postfix's silence and Microsoft's unknown
# recipient, 5.7.9 a refused password and Yahoo's policy, 5.1.8 a bad sender address and Microsoft's blocked account.
_TOO_VAGUE = {"7.0", "7.1", "7.9", "1.0", "1.8", "1.10", "2.0", "4.1", "6.0"}
_REASON_LIMIT = 1000
_REPLY = re.compile(r"\b([45]\d\d)\b(?:[ -]+#?([245]\.\d{1,3}\.\d{1,3}))?")
_CODE = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")


def one_line(text: str) -> str:
    """Text as a server sent it, fit to store and show: no control characters, one line, bounded."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_REASON_LIMIT]


def classify(smtp_code: int | None, enhanced_code: str | None, reason: str) -> FailureKind:
    """The kind of a refusal: by its enhanced code, unless that is one of the vague ones and the words say more;
    else by its words, else by the subject of its enhanced code, else by the bare reply code."""
    detail = enhanced_code.partition(".")[2] if enhanced_code else ""
    if detail in _ENHANCED and detail not in _TOO_VAGUE:
        return _ENHANCED[detail]
    for pattern, kind in _WORDING:
        if pattern.search(reason):
            return kind
    for known in (detail, f"{detail.partition('.')[0]}.0"):
        if known in _ENHANCED:
            return _ENHANCED[known]
    return _SMTP.get(smtp_code or 0, FailureKind.OTHER)


def failure_from_reply(
    reply: str,
    *,
    smtp_code: int | None = None,
    enhanced_code: str | None = None,
    kind: FailureKind | None = None,
) -> Failure:
    """A `Failure` from a server's reply ("550 5.1.1 no such user"); what is given besides wins over
    what the text says."""
    reason = one_line(reply)
    match = _REPLY.search(reason)
    if smtp_code is None and match:
        smtp_code = int(match[1])
    if enhanced_code is None:
        found = (match and match[2]) or ((code := _CODE.search(reason)) and code[1])
        enhanced_code = found or None
    return Failure(kind or classify(smtp_code, enhanced_code, reason), smtp_code, enhanced_code, reason)
