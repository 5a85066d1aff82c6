"""The body of POST /v2/email/outbound-emails: checked as Amazon SES checks it, then read.

Source: AWS, Amazon SES API v2 reference, "SendEmail", "EmailContent", "RawMessage", "MessageTag".
"""

import base64
import binascii
import email
import email.policy
import re
from collections.abc import Sequence
from email.message import EmailMessage
from typing import Any

from carepost.sandbox.message import KEPT_CHARACTERS, Letter
from carepost.sandbox.vendors.base import addresses, json_object

_FIELDS = frozenset({"FromEmailAddress", "FromEmailAddressIdentityArn", "Destination", "ReplyToAddresses"}) | {
    "FeedbackForwardingEmailAddress",
    "FeedbackForwardingEmailAddressIdentityArn",
    "Content",
    "EmailTags",
    "ConfigurationSetName",
    "ConfigurationOverrides",
    "EndpointId",
    "TenantName",
    "ListManagementOptions",
}
_TAG = re.compile(r"[A-Za-z0-9_-]{1,256}")
_MAX_RECIPIENTS = 50
_MAX_TAGS = 50
_MAX_LINE = 998  # "RawMessage": RFC 5322, section 2.1.1


class SubmissionRefused(Exception):
    """The email isn't taken; `code` is AWS's own."""

    def __init__(self, message: str, code: str = "BadRequestException") -> None:
        super().__init__(message)
        self.code = code


def read(body: bytes) -> Sequence[Letter]:
    """One letter for each recipient; raises `SubmissionRefused` with the first thing that is wrong.

    `extra` has the configuration set, and what overrides it: `opens` is None where its settings count.
    """
    try:
        fields = json_object(body)
    except ValueError as error:
        raise SubmissionRefused("The request body is no JSON object.", "SerializationException") from error
    if unknown := fields.keys() - _FIELDS:
        raise SubmissionRefused(f"{min(unknown)} is no member of SendEmail.", "SerializationException")
    content = fields.get("Content")
    if not isinstance(content, dict) or len(content) != 1 or not content.keys() <= {"Raw", "Simple"}:
        raise SubmissionRefused("Content needs exactly one of Raw, Simple and Template (which the sandbox lacks).")
    message = _raw(content["Raw"]) if "Raw" in content else _simple(content["Simple"])
    sender = _sender(fields.get("FromEmailAddress") or message["From"])
    recipients = _recipients(fields.get("Destination", {}), message)
    tags = _tags(fields.get("EmailTags", [])) | _header_tags(str(message.get("X-SES-MESSAGE-TAGS", "")))
    name = fields.get("ConfigurationSetName") or str(message.get("X-SES-CONFIGURATION-SET", ""))
    opens = _opens(fields.get("ConfigurationOverrides", {}))
    parts = [(kind, part) for kind in ("plain", "html") if (part := message.get_body((kind,)))]
    return [
        Letter(
            sender=sender,
            recipient=recipient,
            subject=str(message.get("Subject", "")),
            headers={key: str(value) for key, value in message.items()},
            metadata=tags,
            content=[(f"text/{kind}", part.get_content()[:KEPT_CHARACTERS]) for kind, part in parts],
            open_tracking=True,
            extra={"configuration_set": name, "to": recipients, "opens": opens},
        )
        for recipient in recipients
    ]


def _raw(value: Any) -> EmailMessage:
    try:
        data = base64.b64decode(value["Data"], validate=True)
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise SubmissionRefused("Raw.Data is not Base64.", "SerializationException") from error
    if not data:
        raise SubmissionRefused("Raw.Data is empty.")
    if any(len(line) > _MAX_LINE for line in data.splitlines()):
        raise SubmissionRefused("A line is longer than 998 characters.")
    message = email.message_from_bytes(data, policy=email.policy.default)
    if message.defects or message.get("From") is None:
        raise SubmissionRefused("Missing required header 'From'.")
    if len(message.get_all("From", [])) > 1 or len(message.get_all("Subject", [])) > 1:
        raise SubmissionRefused("Duplicate header 'From' or 'Subject'.")
    return message


def _simple(value: Any) -> EmailMessage:
    message = EmailMessage()
    try:
        message["Subject"] = value["Subject"]["Data"]
        for header in value.get("Headers", []):
            message[header["Name"]] = header["Value"]
        kinds = [
            (kind, value["Body"][name]["Data"])
            for name, kind in (("Text", "plain"), ("Html", "html"))
            if name in value["Body"]
        ]
        message.set_content(kinds[0][1], subtype=kinds[0][0])
        for kind, data in kinds[1:]:
            message.add_alternative(data, subtype=kind)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise SubmissionRefused("Simple needs a Subject and a Body with Text or Html.") from error
    return message


def _sender(value: Any) -> str:
    try:
        return addresses(str(value))[0]
    except ValueError as error:
        raise SubmissionRefused("Missing or malformed FromEmailAddress.") from error


def _recipients(destination: Any, message: EmailMessage) -> Sequence[str]:
    try:
        listed = [each for name in ("To", "Cc", "Bcc") for each in destination.get(f"{name}Addresses") or []]
        if not listed:
            listed = [str(value) for name in ("To", "Cc", "Bcc") for value in message.get_all(name, [])]
        found = [address for each in listed for address in addresses(each)]
    except (AttributeError, TypeError, ValueError) as error:
        raise SubmissionRefused("Local address contains control or whitespace, or is no address.") from error
    if not 1 <= len(found) <= _MAX_RECIPIENTS:
        raise SubmissionRefused(f"Recipient count is not between 1 and {_MAX_RECIPIENTS}.")
    return found


def _opens(overrides: Any) -> bool | None:
    """ "TrackingConfigurationOverrides"."""
    tracking = overrides.get("Tracking", {}) if isinstance(overrides, dict) else None
    names = {"OpenTrackingEnabled", "ClickTrackingEnabled"}
    if not isinstance(tracking, dict) or tracking.keys() - names or set(tracking.values()) - {"ENABLED", "DISABLED"}:
        raise SubmissionRefused("ConfigurationOverrides: Tracking switches are ENABLED or DISABLED.")
    return tracking["OpenTrackingEnabled"] == "ENABLED" if "OpenTrackingEnabled" in tracking else None


def _tags(listed: Any) -> dict[str, str]:
    tags: dict[str, str] = {}
    for tag in listed if isinstance(listed, list) else [None]:
        name, value = (tag.get("Name"), tag.get("Value")) if isinstance(tag, dict) else (None, None)
        if not all(isinstance(each, str) and _TAG.fullmatch(each) for each in (name, value)) or name in tags:
            raise SubmissionRefused("Invalid tag: letters, digits, underscores and dashes, each name once.")
        tags[str(name)] = str(value)
    if len(tags) > _MAX_TAGS:
        raise SubmissionRefused(f"At most {_MAX_TAGS} tags.")
    return tags


def _header_tags(header: str) -> dict[str, str]:
    pairs = (pair.strip().partition("=") for pair in header.split(",") if pair.strip())
    return {name: value for name, _, value in pairs}
