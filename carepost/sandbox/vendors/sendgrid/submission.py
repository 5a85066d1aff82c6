"""The body of POST /v3/mail/send: checked as SendGrid checks it, then read.

Source: Twilio SendGrid, "Mail Send" and its list of errors. What decides nothing here (categories, send_at,
attachments, templates' contents) is accepted and ignored.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from carepost.sandbox.message import KEPT_CHARACTERS, Letter

_ADDRESS = re.compile(r"[^@\s<>]+@[^@\s<>]+")
_RESERVED_HEADERS = frozenset({"x-sg-id", "x-sg-eid", "received", "dkim-signature", "to", "from", "cc", "bcc"}) | {
    "subject",
    "reply-to",
    "content-type",
    "content-transfer-encoding",
}
_MAX_RECIPIENTS = 1000
_MAX_CUSTOM_ARGS = 10_000  # bytes of JSON


@dataclass(frozen=True, slots=True)
class Submission:
    """What one call asks to be sent. `dry_run` is SendGrid's own sandbox mode: check it, send nothing."""

    letters: Sequence[Letter]
    dry_run: bool


@dataclass(frozen=True, slots=True)
class Complaint:
    """One entry of an error answer; `field` is a path such as `personalizations.0.to`."""

    message: str
    field: str | None = None

    def as_json(self) -> Mapping[str, str | None]:
        """As SendGrid writes it."""
        return {"message": self.message, "field": self.field, "help": None}


class SubmissionRefused(Exception):
    """The body isn't a valid submission."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        super().__init__(complaints[0].message)
        self.complaints = complaints


def read(body: bytes) -> Submission:
    """Raises `SubmissionRefused` with everything that is wrong."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SubmissionRefused([Complaint("the body is not valid JSON")]) from error
    if not isinstance(document, dict):
        raise SubmissionRefused([Complaint("the body must be a JSON object")])
    if complaints := list(_complaints(document)):
        raise SubmissionRefused(complaints)
    return Submission(
        letters=[
            _letter(document, part, to["email"])
            for part in document["personalizations"]
            for kind in ("to", "cc", "bcc")
            for to in part.get(kind, [])
        ],
        dry_run=_switch(document, "mail_settings", "sandbox_mode", default=False),
    )


def _letter(document: dict[str, Any], part: dict[str, Any], recipient: str) -> Letter:
    return Letter(
        sender=document["from"]["email"],
        recipient=recipient,
        subject=part.get("subject") or document.get("subject") or "",
        headers={**document.get("headers", {}), **part.get("headers", {})},
        metadata={**document.get("custom_args", {}), **part.get("custom_args", {})},
        content=[(part["type"], part["value"][:KEPT_CHARACTERS]) for part in document.get("content", [])],
        open_tracking=_switch(document, "tracking_settings", "open_tracking", default=True),
    )


def _complaints(document: dict[str, Any]) -> Iterator[Complaint]:
    templated = "template_id" in document
    yield from _address(document.get("from"), "from")
    if "reply_to" in document:
        yield from _address(document["reply_to"], "reply_to")
    yield from _personalizations(document, needs_subject=not templated and not _filled(document.get("subject")))
    if "content" in document or not templated:
        yield from _content(document.get("content"))
    yield from _extras(document, "")
    for group in ("tracking_settings", "mail_settings"):
        settings = document.get(group, {})
        if not isinstance(settings, dict) or not all(isinstance(setting, dict) for setting in settings.values()):
            yield Complaint("settings must be objects", group)
    if "send_at" in document and type(document["send_at"]) is not int:
        yield Complaint("must be a unix timestamp", "send_at")


def _personalizations(document: dict[str, Any], *, needs_subject: bool) -> Iterator[Complaint]:
    parts = document.get("personalizations")
    if not isinstance(parts, list) or not parts:
        yield Complaint("at least one personalization is needed", "personalizations")
        return
    total = 0
    for index, part in enumerate(parts):
        path = f"personalizations.{index}"
        if not isinstance(part, dict):
            yield Complaint("must be an object", path)
            continue
        if not part.get("to"):
            yield Complaint("at least one recipient is needed", f"{path}.to")
        seen: set[str] = set()
        for kind in ("to", "cc", "bcc"):
            addresses = part.get(kind, [])
            if not isinstance(addresses, list):
                yield Complaint("must be an array", f"{path}.{kind}")
                continue
            total += len(addresses)
            for place, address in enumerate(addresses):
                if problems := list(_address(address, f"{path}.{kind}.{place}")):
                    yield from problems
                elif address["email"].lower() in seen:
                    yield Complaint("an address may stand once in a personalization", f"{path}.{kind}.{place}.email")
                else:
                    seen.add(address["email"].lower())
        if needs_subject and not _filled(part.get("subject")):
            yield Complaint("a subject is needed", "subject")
        yield from _extras(part, f"{path}.")
    if total > _MAX_RECIPIENTS:
        yield Complaint(f"at most {_MAX_RECIPIENTS} recipients a request", "personalizations")


def _address(value: object, path: str) -> Iterator[Complaint]:
    if not isinstance(value, dict):
        yield Complaint("an object with an email is needed", path)
    elif not isinstance(value.get("email"), str) or not _ADDRESS.fullmatch(value["email"]):
        yield Complaint("not a valid email address", f"{path}.email")
    elif not isinstance(value.get("name", ""), str):
        yield Complaint("must be a string", f"{path}.name")


def _content(content: object) -> Iterator[Complaint]:
    if not isinstance(content, list) or not content:
        yield Complaint("at least one content is needed", "content")
        return
    for index, part in enumerate(content):
        if not isinstance(part, dict) or not _filled(part.get("type")):
            yield Complaint("a MIME type is needed", f"content.{index}.type")
        elif not _filled(part.get("value")):
            yield Complaint("must be a string of at least one character", f"content.{index}.value")
        elif part["type"] == "text/plain" and index:
            yield Complaint("text/plain must come first, then text/html", "content")


def _extras(holder: dict[str, Any], path: str) -> Iterator[Complaint]:
    """Headers and custom arguments, which may stand at the top or in a personalization."""
    for name in ("headers", "custom_args"):
        values = holder.get(name, {})
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            yield Complaint("must be an object of strings", f"{path}{name}")
        elif name == "custom_args" and len(json.dumps(values).encode()) > _MAX_CUSTOM_ARGS:
            yield Complaint(f"at most {_MAX_CUSTOM_ARGS} bytes", f"{path}{name}")
        elif name == "headers" and not _RESERVED_HEADERS.isdisjoint(header.lower() for header in values):
            yield Complaint("a reserved header can't be set", f"{path}{name}")


def _filled(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _switch(document: dict[str, Any], group: str, name: str, *, default: bool) -> bool:
    return bool(document.get(group, {}).get(name, {}).get("enable", default))
