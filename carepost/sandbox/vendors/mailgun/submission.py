"""The form of POST /v3/{domain}/messages: checked as Mailgun checks it, then read.

Source: Mailgun, API reference "Send an email" and user manual "Sending messages".
"""

import re
import time
import uuid
from collections.abc import Mapping, Sequence

from starlette.datastructures import FormData

from carepost.sandbox.message import KEPT_CHARACTERS, Letter
from carepost.sandbox.vendors.base import addresses

DOMAIN = "mg.sandbox.example"
_FIELDS = frozenset({"from", "to", "cc", "bcc", "subject", "text", "html", "amp-html", "attachment", "inline"}) | {
    "template",
    "recipient-variables",
}
_PREFIXED = re.compile(r"(?P<kind>[ohvt]):(?P<name>[^\s:]+)")
_SWITCHES = frozenset({"yes", "no", "true", "false", "True", "False"})
_ON = frozenset({"yes", "true", "True", "htmlonly"})
_TRACKING = frozenset({"tracking", "tracking-opens", "tracking-clicks", "testmode", "dkim", "require-tls"}) | {
    "skip-verification",
}
_MAX_RECIPIENTS = 1000
_MAX_OPTIONS = 16 * 1024  # bytes of o:, h:, v: and t: parameters together


class SubmissionRefused(Exception):
    """The email isn't taken."""


def read(form: FormData) -> Sequence[Letter]:
    """One letter for each recipient; raises `SubmissionRefused` with the first thing that is wrong.

    `extra` has the Message-ID, in angle brackets.
    """
    options: dict[str, dict[str, str]] = {"o": {}, "h": {}, "v": {}, "t": {}}
    for name, value in form.multi_items():
        prefixed = _PREFIXED.fullmatch(name)
        if prefixed and isinstance(value, str):
            options[prefixed["kind"]][prefixed["name"]] = value
        elif name not in _FIELDS:
            raise SubmissionRefused(f"{name} is not a valid parameter")
    if sum(len(name) + len(value) for group in options.values() for name, value in group.items()) > _MAX_OPTIONS:
        raise SubmissionRefused("parameters o:, h:, v: and t: are limited to 16KB in total")
    for name, value in options["o"].items():
        if name in _TRACKING and value not in _SWITCHES | {"htmlonly"}:
            raise SubmissionRefused(f"o:{name} must be yes, no, true or false")
    [sender] = _addresses(form, "from")[:1]
    fields = [name for name in ("to", "cc", "bcc") if name == "to" or form.get(name)]
    recipients = [each for name in fields for each in _addresses(form, name)]
    if len(recipients) > _MAX_RECIPIENTS:
        raise SubmissionRefused("the number of recipients is limited to 1,000")
    text, html = _text(form, "text"), _text(form, "html")
    if not (text or html or form.get("template")):
        raise SubmissionRefused("Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified")
    content = (("text/plain", text), ("text/html", html))
    headers = options["h"]
    given = next((value for name, value in headers.items() if name.lower() == "message-id"), "")
    message_id = given or f"<{time.strftime('%Y%m%d%H%M%S')}.{uuid.uuid4().hex[:16]}@{DOMAIN}>"
    return [
        Letter(
            sender=sender,
            recipient=recipient,
            subject=_text(form, "subject"),
            headers=headers,
            metadata=options["v"],
            content=[(kind, value[:KEPT_CHARACTERS]) for kind, value in content if value],
            open_tracking=options["o"].get("tracking-opens", options["o"].get("tracking", "yes")) in _ON,
            extra={"message_id": message_id, "test": options["o"].get("testmode") in _ON, "to": _text(form, "to")},
        )
        for recipient in recipients
    ]


def _text(form: Mapping[str, object], name: str) -> str:
    value = form.get(name, "")
    return value if isinstance(value, str) else ""


def _addresses(form: FormData, name: str) -> Sequence[str]:
    listed = [value for value in form.getlist(name) if isinstance(value, str) and value]
    if not listed:
        raise SubmissionRefused(f"{name} parameter is missing")
    try:
        return [address for each in listed for address in addresses(each)]
    except ValueError as error:
        raise SubmissionRefused(f"{name} parameter is not a valid address. please check documentation") from error
