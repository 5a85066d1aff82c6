"""The body of POST /email: checked as Postmark checks it, then read.

Source: Postmark, developer/api/email-api and developer/api/overview ("API error codes").
"""

from collections.abc import Mapping, Sequence
from typing import Any

from carepost.sandbox.message import KEPT_CHARACTERS, Letter
from carepost.sandbox.outcomes import named
from carepost.sandbox.vendors.base import addresses, json_object, strings

# Field, type, needed. Everything else is no field of Postmark's.
_FIELDS: Mapping[str, tuple[type, bool]] = {
    "From": (str, True),
    "To": (str, True),
    "Cc": (str, False),
    "Bcc": (str, False),
    "Subject": (str, False),
    "Tag": (str, False),
    "HtmlBody": (str, False),
    "TextBody": (str, False),
    "ReplyTo": (str, False),
    "Headers": (list, False),
    "TrackOpens": (bool, False),
    "TrackLinks": (str, False),
    "Attachments": (list, False),
    "Metadata": (dict, False),
    "MessageStream": (str, False),
    "InlineCss": (bool, False),
}
_LINKS = frozenset({"None", "HtmlAndText", "HtmlOnly", "TextOnly"})
_MAX_RECIPIENTS = 50
_MAX_METADATA = 10  # pairs; names of 20 characters, values of 80
_MAX_SUBJECT = 2000
STREAM = "outbound"


class SubmissionRefused(Exception):
    """The email isn't taken; `code` is Postmark's own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


def read(body: bytes) -> Sequence[Letter]:
    """One letter for each recipient; raises `SubmissionRefused` with the first thing that is wrong."""
    try:
        fields = {name: value for name, value in json_object(body).items() if value is not None}
    except ValueError as error:
        raise SubmissionRefused(402, "Received invalid JSON input.") from error
    for name, (kind, needed) in _FIELDS.items():
        if name in fields and type(fields[name]) is not kind:
            raise SubmissionRefused(403, f"The value of '{name}' does not fit the JSON schema.")
        if needed and not fields.get(name):
            raise SubmissionRefused(300, f"Invalid '{name}' value.")
    if unknown := fields.keys() - _FIELDS.keys():
        raise SubmissionRefused(403, f"'{min(unknown)}' is no field of an email.")
    [sender] = _addresses(fields, "From")[:1]
    recipients = [each for name in ("To", "Cc", "Bcc") if fields.get(name) for each in _addresses(fields, name)]
    if not fields.get("TextBody") and not fields.get("HtmlBody"):
        raise SubmissionRefused(300, "Provide either email TextBody or HtmlBody or both.")
    if len(fields.get("Subject", "")) > _MAX_SUBJECT:
        raise SubmissionRefused(300, "The 'Subject' is too long.")
    if fields.get("TrackLinks", "None") not in _LINKS:
        raise SubmissionRefused(300, "Invalid 'TrackLinks' value.")
    if "ReplyTo" in fields:
        _addresses(fields, "ReplyTo")
    if len(recipients) > _MAX_RECIPIENTS:
        raise SubmissionRefused(300, f"At most {_MAX_RECIPIENTS} recipients an email.")
    if fields.get("MessageStream", STREAM) != STREAM:
        raise SubmissionRefused(1235, "The message stream does not exist.")
    if inactive := [each for each in recipients if named(each) == "suppressed"]:
        raise SubmissionRefused(
            406,
            "You tried to send to recipient(s) that have been marked as inactive. Found inactive addresses: "
            f"{', '.join(inactive)}.",
        )
    return [_letter(fields, sender, recipient) for recipient in recipients]


def _addresses(fields: Mapping[str, Any], name: str) -> Sequence[str]:
    try:
        return addresses(fields[name])
    except ValueError as error:
        raise SubmissionRefused(300, f"Invalid '{name}' address: '{fields[name]}'.") from error


def _letter(fields: Mapping[str, Any], sender: str, recipient: str) -> Letter:
    content = [("text/plain", fields.get("TextBody", "")), ("text/html", fields.get("HtmlBody", ""))]
    return Letter(
        sender=sender,
        recipient=recipient,
        subject=fields.get("Subject", ""),
        headers=_headers(fields.get("Headers", [])),
        metadata=_metadata(fields.get("Metadata", {})),
        content=[(kind, value[:KEPT_CHARACTERS]) for kind, value in content if value],
        open_tracking=fields.get("TrackOpens", False),
        extra={"Tag": fields.get("Tag", "")},
    )


def _headers(listed: Sequence[Any]) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for header in listed:
        if not isinstance(header, dict) or not all(isinstance(header.get(key), str) for key in ("Name", "Value")):
            raise SubmissionRefused(300, "Invalid 'Headers' value: a Name and a Value each.")
        headers[header["Name"]] = header["Value"]
    return headers


def _metadata(given: object) -> Mapping[str, str]:
    try:
        metadata = strings(given)
    except ValueError as error:
        raise SubmissionRefused(300, "Invalid 'Metadata' value: strings alone.") from error
    if len(metadata) > _MAX_METADATA or any(len(name) > 20 or len(value) > 80 for name, value in metadata.items()):
        raise SubmissionRefused(300, "Invalid 'Metadata' value: 10 fields, 20 characters a name, 80 a value.")
    return metadata
