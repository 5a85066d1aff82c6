"""docs/providers.md, made from the capability tables: what an ESP can tell, what it can't, and how it is set up."""

from collections.abc import Iterator

from mail.providers import PROVIDERS
from mail.providers.base import Capabilities, CredentialField, Proof, Provider

_HEAD = """# Sending accounts

An ADMIN sets an account up with the mutation `createSendingAccount`; what it needs goes into `credentials` as pairs of `name` and `value`. They are sealed at rest and never shown again.
The tables and steps of the ESPs are made from the adapters in `mail/providers/` (`carepost providers > docs/providers.md`; `make check` fails when they disagree). The query `providers` tells a front-end the same.

## What can be known
Silence is honest: what an ESP can't tell, Carepost doesn't guess, and `Message.explanation` says so.
"""

_TAIL = """
## Gmail and Google Workspace
`kind: GMAIL`. Credentials: `username` (the Google account), and `app_password`, or `client_id`, `client_secret` and `refresh_token` of an OAuth client with the scope `https://mail.google.com/`.
Nothing comes back from there, so its messages show at most Sent, and a repeated send after a broken connection may arrive twice; the message says so.

## SMTP
`kind: SMTP`. Credentials: `host`; `port` and `security` (`starttls` on 587 by default, `tls` on 465, `none`); `username` and `password` where the server asks for them; `ca` (PEM) for a certificate authority of
your own. What is said of Gmail holds here too.

## New secrets
`rotateWebhookSecret(input: {accountId: "..."})` makes a new password where it is ours to make; give `secret` where the ESP hands it out. The old one holds on beside it until the next rotation, or ends at once with `keepOld: false`
(in other API processes within 5 seconds). New credentials: `updateSendingAccount`.

## Is it heard?
`SendingAccount.health` tells when the last event came, webhooks refused for their signature, messages without any answer, webhooks that could not be read, and events that match no message. The page shows
it to administrators under *Accounts*, and `accountHealthChanged` tells it live.
"""

_COLUMNS = (
    "ESP",
    "`provider`",
    "deliveries",
    "opens",
    "machine opens told apart",
    "open tracking off for one message",
    "our id in every event",
    "a repeated send is one email",
    "proof of a webhook",
    "can be asked again",
)
_PROOFS = {
    Proof.SIGNATURE: "signature over the content",
    Proof.TOKEN: "signature over a token, taken once",
    Proof.PASSWORD: "name and password",
}


def providers_page() -> str:
    """The page in Markdown."""
    return "\n".join([_HEAD, *_table(), "", *(part for each in PROVIDERS.values() for part in _section(each))]) + _TAIL


def _table() -> Iterator[str]:
    yield f"| {' | '.join(_COLUMNS)} |"
    yield f"|{' --- |' * len(_COLUMNS)}"
    for each in PROVIDERS.values():
        can = each.capabilities
        cells = (
            f"[{each.label}](#{each.label.lower().replace(' ', '-').replace('.', '')})",
            f"`{each.name}`",
            _yes(can.delivery),
            _yes(can.opens),
            _yes(can.machine_opens) if can.opens else "",
            _tracking(can),
            _yes(can.metadata),
            _yes(can.idempotency),
            _PROOFS[can.proof],
            f"for {can.asking.days} days" if can.asking else "no",
        )
        yield f"| {' | '.join(cells)} |"


def _section(each: Provider) -> Iterator[str]:
    can = each.capabilities
    yield f"## {each.label}"
    yield from (f"{number}. {step}" for number, step in enumerate(_steps(each), 1))
    yield ""
    yield "Credentials: " + ", ".join(_credential(field) for field in each.credential_fields) + "."
    if each.generates_webhook_secret:
        yield "The webhook's password is made by Carepost, and shown once."
    if can.tracking_warning:
        yield f"Open tracking: {can.tracking_warning}"
    if can.asking and can.asking.needs:
        yield f"To be asked again it needs {can.asking.needs}."
    yield ""


def _steps(each: Provider) -> Iterator[str]:
    for step in each.set_up.steps:
        yield step.replace("{url}", "the `webhookUrl` that `createSendingAccount` answers")


def _credential(field: CredentialField) -> str:
    notes = []
    if not field.required:
        notes.append("optional")
    if field.choices:
        notes.append(f"one of {', '.join(field.choices)}")
    return f"`{field.name}` ({'; '.join([field.label, *notes])})"


def _tracking(can: Capabilities) -> str:
    if not can.opens:
        return "there is none"
    return _yes(can.tracking_switch)


def _yes(value: bool) -> str:
    return "yes" if value else "no"
