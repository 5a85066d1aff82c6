"""Scaleway Transactional Email, by its API and by Scaleway's Topics and Events.

Pages, at scaleway.com/en: developers/api/transactional-email (v1alpha1), docs/transactional-email ("Sending an
email using the Transactional Email API", "Capabilities and limits", "How to manage your email activity"),
docs/topics-and-events ("How to create and manage subscriptions", "Supported actions", "Verifying
webhook signatures").
"""

import re
from collections.abc import Mapping, Sequence
from email.utils import formataddr
from typing import Final
from urllib.parse import quote, urlencode

from mail.failure import Failure, FailureKind, one_line
from mail.message import Address, Email
from mail.providers import exchange, reading, scaleway_events, sns
from mail.providers.adapter import SignedAdapter
from mail.providers.base import (
    Accepted,
    Answer,
    Asking,
    Capabilities,
    CredentialField,
    CredentialsCheck,
    HttpRequest,
    HttpResponse,
    NotTold,
    Proof,
    Question,
    Reading,
    Refused,
    SetUp,
    Told,
    TryAgain,
    WebhookRequest,
)
from mail.providers.scaleway_authorities import SCALEWAY_MNQ

_URL: Final = "https://api.scaleway.com"
# "Capabilities and limits": the one region that has Transactional Email. Topics are in others too.
_REGIONS: Final = ("fr-par",)

SNS: Final = sns.Service(
    label="Scaleway",
    topic=re.compile(
        r"arn:(?P<partition>scw):sns:(?P<region>[a-z]{2}-[a-z]{3}):[A-Za-z0-9-]{1,64}:[A-Za-z0-9_-]{1,256}", re.ASCII
    ),
    example="arn:scw:sns:fr-par:project-8c8bfa06-9d5f-4a3e-a6a5-1a4a4f2f0b7e:email-events",
    # Scaleway's own bucket, whose names are documented no further.
    certificate=r"https://messaging\.s3\.(?:fr-par|{region})\.scw\.cloud/[A-Za-z0-9_/-]{{1,200}}\.(?:pem|crt)",
    api="https://sns.mnq.{region}.scaleway.com/",
    authorities=SCALEWAY_MNQ,
)

# `type` of an error. Others go by the status.
_ERRORS: Mapping[str, FailureKind] = {
    "invalid_arguments": FailureKind.CONTENT,
    "denied_authentication": FailureKind.ACCOUNT,
    "permissions_denied": FailureKind.ACCOUNT,  # also a wrong project ID
    "not_found": FailureKind.ACCOUNT,
    "precondition_failed": FailureKind.ACCOUNT,  # the domain isn't verified
    "resource_locked": FailureKind.ACCOUNT,
}
# A 400 always has a type; one that isn't known may mean anything.
_STATUSES: Mapping[int, FailureKind] = {**exchange.STATUSES, 400: FailureKind.OTHER}
_ERRORS_FOR_NOW: Mapping[str, FailureKind] = {
    "quotas_exceeded": FailureKind.ACCOUNT,
    "transient_state": FailureKind.ACCOUNT,
    "too_many_requests": FailureKind.ACCOUNT,
}
# `argument_name` of an invalid argument, by its beginning.
_ARGUMENTS: Mapping[str, FailureKind] = {
    "to": FailureKind.ADDRESS_UNKNOWN,
    "from": FailureKind.ACCOUNT,
    "project_id": FailureKind.ACCOUNT,
    "region": FailureKind.ACCOUNT,
}


class Scaleway(SignedAdapter):
    """Scaleway Transactional Email. It tracks neither opens nor clicks."""

    name: str = "scaleway"
    label: str = "Scaleway"
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=False,
        machine_opens=False,
        tracking_switch=False,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        # No rate is documented. The console shows a year of emails.
        asking=Asking(per_second=5, days=365),
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("secret_key", "API secret key"),
        CredentialField("project_id", "project ID", secret=False),
        CredentialField("region", "region", required=False, secret=False, choices=_REGIONS),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "At Transactional Email, add the From domain with its SPF, DKIM, DMARC and MX records, and verify it. The "
            "region is fr-par. Scaleway refuses subjects of fewer than 10 characters.",
            "At IAM, make an application with the permission set TransactionalEmailEmailFullAccess in the project, and "
            "an API key for it; enter its secret_key and the project_id. When the key expires, enter a new one.",
            "At Topics and Events > Topics, make a topic of the type Standard, and enter its ARN with "
            "rotateWebhookSecret; webhooks of other topics are refused.",
            "At the topic, create a subscription with the protocol HTTPS and the endpoint {url}; Carepost confirms it "
            "by itself.",
            "At Transactional Email > the domain > Webhooks, create a webhook for that topic and all event types.",
            "If Scaleway changes the authority of its certificates, enter the ARN with a # and the SHA-256 fingerprint "
            "of the new authority in 64 small hexadecimal digits behind it.",
        ),
        spf="_spf.tem.scaleway.com",
    )
    kept_headers: Sequence[str] = ()  # the envelope holds its own proof
    webhook_bytes: int = 1 << 20

    def check_webhook_secret(self, secret: str) -> None:
        sns.check_secret(SNS, secret)

    def certificate_url(self, request: WebhookRequest, secrets: Sequence[str]) -> str:
        return sns.certificate_url(SNS, request, secrets)

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        url, payload = f"{_api(credentials)}/emails", _payload(email, credentials["project_id"])
        return exchange.json_post(url, _token(credentials), payload)

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        listed = answer.get("emails")
        emails = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        if response.status in {200, 201} and emails:
            return Accepted(reading.text(emails[0], "id") or None)
        kind, reason = _failure(answer, response.status)
        failure = Failure(kind, reason=reason)
        if reading.text(answer, "type") in _ERRORS_FOR_NOW or exchange.passes(response.status):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        """developers/api/transactional-email, "Get an email"."""
        if not question.provider_message_id:
            return None
        url = f"{_api(credentials)}/emails/{quote(question.provider_message_id, safe='')}"
        return exchange.get(url, _token(credentials))

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        email = reading.decode_object(response.body)
        if response.status != 200 or not reading.text(email, "status"):
            return exchange.not_told(response)
        return Told(scaleway_events.read_email(email, question))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """developers/api/transactional-email, "Email statuses": how many, and nothing of any."""
        query = urlencode({"project_id": credentials["project_id"]})
        return exchange.get(f"{_api(credentials)}/statistics?{query}", _token(credentials))

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 403:
            return CredentialsCheck(
                False,
                "Scaleway knows the key, but it may not read the project's emails: check the project ID, and that the "
                "key has the permission set TransactionalEmailEmailFullAccess.",
            )
        if response.status == 401 and reading.decode_object(response.body).get("reason") == "expired":
            return CredentialsCheck(False, "The key has expired; make a new one and enter it.")
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        sns.verify(SNS, request, secrets)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return sns.read(SNS, body, scaleway_events.read_message)


def _api(credentials: Mapping[str, str]) -> str:
    region = credentials.get("region") or _REGIONS[0]
    return f"{exchange.base_url(credentials, _URL)}/transactional-email/v1alpha1/regions/{region}"


def _token(credentials: Mapping[str, str]) -> dict[str, str]:
    return {"x-auth-token": credentials["secret_key"]}


def _payload(email: Email, project_id: str) -> dict[str, object]:
    # Additional headers come back with every event, and the patient can see them: ours is an opaque id. Whether
    # a Message-ID may be set is not documented; Scaleway makes one.
    headers = {scaleway_events.OUR_ID: str(email.id), "Auto-Submitted": "auto-generated"}
    if email.reply_to:
        headers["Reply-To"] = _header_mailbox(email.reply_to)
    payload: dict[str, object] = {
        "project_id": project_id,
        "from": _mailbox(email.sender),
        "to": [_mailbox(email.recipient)],
        "subject": email.subject,
        "text": email.text,
        "additional_headers": [{"key": key, "value": value} for key, value in headers.items()],
    }
    if email.html is not None:
        payload["html"] = email.html
    return payload


def _mailbox(address: Address) -> dict[str, str]:
    address = exchange.with_ascii_domain(address)  # an internationalised one makes an email that gets lost
    return {"email": address.email, "name": address.name} if address.name else {"email": address.email}


def _header_mailbox(address: Address) -> str:
    """A mailbox for a header that Scaleway passes on as it is: RFC 2047 is ours to do."""
    address = exchange.with_ascii_domain(address)
    return formataddr((address.name, address.email)) if address.email.isascii() else address.email


def _failure(answer: reading.Fields, status: int) -> tuple[FailureKind, str]:
    """Kind and reason of an error, from its type and the arguments that it names."""
    error = reading.text(answer, "type")
    kind = {**_ERRORS, **_ERRORS_FOR_NOW}.get(error) or _STATUSES.get(status, FailureKind.OTHER)
    listed = answer.get("details")
    details = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    arguments = [reading.text(each, "argument_name") for each in details]
    if error == "invalid_arguments":
        roots = [re.split(r"[.\[]", argument)[0] for argument in arguments]
        kind = next((_ARGUMENTS[root] for root in roots if root in _ARGUMENTS), kind)
    helps = [
        " ".join(filter(None, (reading.text(each, "argument_name"), reading.text(each, "help_message"))))
        for each in details
    ]
    message = reading.text(answer, "message") or reading.text(answer, "help_message") or error
    return kind, one_line(": ".join(filter(None, (message, "; ".join(filter(None, helps)))))) or f"HTTP {status}"
