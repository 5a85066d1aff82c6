"""The body of POST /emails: checked as Resend checks it, then read.

Source: Resend, docs/api-reference/emails/send-email and docs/api-reference/errors.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from carepost.sandbox.message import KEPT_CHARACTERS, Letter
from carepost.sandbox.vendors.base import addresses, json_object, strings

_FIELDS = frozenset({"from", "to", "subject", "bcc", "cc", "scheduled_at", "reply_to", "html", "text", "headers"}) | {
    "attachments",
    "tags",
    "topic_id",
    "template",
}
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_MAX_RECIPIENTS = 50


class SubmissionRefused(Exception):
    """The email isn't taken; `name` is Resend's own for the error."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.name = name


def read(body: bytes) -> Sequence[Letter]:
    """One letter for each recipient; raises `SubmissionRefused` with the first thing that is wrong."""
    try:
        fields = {name: value for name, value in json_object(body).items() if value is not None}
    except ValueError as error:
        raise SubmissionRefused("validation_error", "The request body is not a JSON object.") from error
    if unknown := fields.keys() - _FIELDS:
        raise SubmissionRefused("validation_error", f"The `{min(unknown)}` field is not known.")
    for name in ("from", "to", "subject"):
        if not fields.get(name):
            raise SubmissionRefused("missing_required_field", f"Missing `{name}` field.")
    for name in ("subject", "html", "text", "scheduled_at"):
        if not isinstance(fields.get(name, ""), str):
            raise SubmissionRefused("validation_error", f"The `{name}` field must be a `string`.")
    if not fields.get("html") and not fields.get("text") and not fields.get("template"):
        raise SubmissionRefused("missing_required_field", "Missing `html` or `text` field.")
    [sender, *more] = _mailboxes(fields["from"], "from", "invalid_from_address")
    recipients = [each for name in ("to", "cc", "bcc") if name in fields for each in _mailboxes(fields[name], name)]
    if more or len(recipients) > _MAX_RECIPIENTS:
        raise SubmissionRefused("validation_error", f"One sender, and at most {_MAX_RECIPIENTS} recipients.")
    if "reply_to" in fields:
        _mailboxes(fields["reply_to"], "reply_to")
    headers, tags = _headers(fields.get("headers", {})), _tags(fields.get("tags", []))
    content = [("text/plain", fields.get("text", "")), ("text/html", fields.get("html", ""))]
    return [
        Letter(
            sender=sender,
            recipient=recipient,
            subject=fields["subject"],
            headers=headers,
            metadata=tags,
            content=[(kind, value[:KEPT_CHARACTERS]) for kind, value in content if value],
            open_tracking=True,  # the domain decides
            extra={"from": fields["from"], "to": recipients},
        )
        for recipient in recipients
    ]


def _mailboxes(value: object, name: str, error_name: str = "validation_error") -> Sequence[str]:
    listed = value if isinstance(value, list) else [value]
    try:
        return [address for each in listed for address in addresses(each)]
    except ValueError as error:
        message = f"Invalid `{name}` field. The email address needs to follow the `email@example.com` format."
        raise SubmissionRefused(error_name, message) from error


def _headers(value: object) -> Mapping[str, str]:
    try:
        return strings(value)
    except ValueError as error:
        raise SubmissionRefused("validation_error", "The `headers` field must be an object of strings.") from error


def _tags(value: Any) -> Mapping[str, str]:
    tags: dict[str, str] = {}
    for tag in value if isinstance(value, list) else [None]:
        name, content = (tag.get("name"), tag.get("value")) if isinstance(tag, dict) else (None, None)
        if not all(isinstance(each, str) and _TAG.fullmatch(each) for each in (name, content)):
            raise SubmissionRefused(
                "validation_error", "Tags should only contain ASCII letters, numbers, underscores, or dashes."
            )
        tags[str(name)] = str(content)
    return tags
