"""Amazon SES (AWS), by its API v2 and by Amazon SNS.

Pages, at docs.aws.amazon.com/ses/latest: APIReference-V2 "SendEmail", "ConfigurationOverrides", "GetMessageInsights",
"GetAccount", "Common Errors"; dg "Using configuration overrides", "VDM dashboard", "Using Amazon SNS".
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from mail import mime
from mail.errors import CredentialsIncomplete
from mail.failure import Failure, FailureKind, one_line
from mail.message import Email
from mail.providers import amazon_ses_events, exchange, reading, sigv4, sns
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

# AWS General Reference, "Amazon SES endpoints" and "Amazon SNS endpoints", by partition.
_DOMAINS: Mapping[str, str] = {
    "aws": "amazonaws.com",
    "aws-us-gov": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
}
_REGION: Final = r"[a-z]{2,5}(?:-[a-z]+){1,3}-[1-9]"
_CONFIGURATION_SET: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)

SNS: Final = sns.Service(
    label="Amazon SNS",
    topic=re.compile(
        rf"arn:(?P<partition>{'|'.join(_DOMAINS)}):sns:(?P<region>{_REGION}):[0-9]{{12}}:[A-Za-z0-9_-]{{1,256}}",
        re.ASCII,
    ),
    example="arn:aws:sns:eu-west-1:123456789012:email-events",
    certificate=r"https://sns\.{region}\.{domain}/SimpleNotificationService-[0-9a-f]{{1,64}}\.pem",
    api="https://sns.{region}.{domain}/",
    domains=_DOMAINS,
)

# "SendEmail", "Common Errors": the type of an error; those that may pass are tried again. Others go by the status.
_ERRORS: Mapping[str, FailureKind] = {
    "MessageRejected": FailureKind.CONTENT,
    "BadRequestException": FailureKind.CONTENT,
    "ValidationException": FailureKind.CONTENT,
    "MailFromDomainNotVerifiedException": FailureKind.ACCOUNT,
    "AccountSuspendedException": FailureKind.ACCOUNT,
    "NotFoundException": FailureKind.ACCOUNT,  # the configuration set
    "AccessDeniedException": FailureKind.ACCOUNT,
    "UnrecognizedClientException": FailureKind.ACCOUNT,
    "InvalidClientTokenId": FailureKind.ACCOUNT,
    "InvalidSignatureException": FailureKind.ACCOUNT,
    "SignatureDoesNotMatch": FailureKind.ACCOUNT,
    "MissingAuthenticationTokenException": FailureKind.ACCOUNT,
    "ExpiredTokenException": FailureKind.ACCOUNT,
    "OptInRequired": FailureKind.ACCOUNT,
}
_ERRORS_FOR_NOW: Mapping[str, FailureKind] = {
    "TooManyRequestsException": FailureKind.ACCOUNT,
    "LimitExceededException": FailureKind.ACCOUNT,
    "ThrottlingException": FailureKind.ACCOUNT,
    "SendingPausedException": FailureKind.ACCOUNT,
    "RequestExpired": FailureKind.ACCOUNT,
}
# What the messages of these say besides. Our clock may be set right again.
_MESSAGES: Sequence[tuple[str, FailureKind]] = (
    ("not verified", FailureKind.ACCOUNT),
    ("illegal address", FailureKind.ADDRESS_UNKNOWN),
    ("missing final '@domain'", FailureKind.ADDRESS_UNKNOWN),
    ("local address contains", FailureKind.ADDRESS_UNKNOWN),
    ("domain contains", FailureKind.ADDRESS_UNKNOWN),
    ("domain starts with", FailureKind.ADDRESS_UNKNOWN),
    ("domain ends with", FailureKind.ADDRESS_UNKNOWN),
)
_CLOCK: Final = ("signature expired", "signature not yet current")


class AmazonSes(SignedAdapter):
    """Amazon SES's API v2, its events and its notifications."""

    name: str = "amazon_ses"
    label: str = "Amazon SES"
    capabilities: Capabilities = Capabilities(
        delivery=True,
        opens=True,
        machine_opens=True,
        tracking_switch=True,
        metadata=True,
        idempotency=False,
        proof=Proof.SIGNATURE,
        # "GetMessageInsights": once a second. "VDM dashboard": messages of the last 30 days.
        asking=Asking(per_second=1, days=30, needs="Virtual Deliverability Manager"),
    )
    credential_fields: Sequence[CredentialField] = (
        CredentialField("access_key_id", "access key ID", secret=False),
        CredentialField("secret_access_key", "secret access key"),
        CredentialField("session_token", "session token", required=False),
        CredentialField("region", "AWS region", secret=False),
        CredentialField("configuration_set", "configuration set", required=False, secret=False),
        CredentialField(exchange.BASE_URL, "API base URL", required=False, secret=False),
    )
    set_up: SetUp = SetUp(
        steps=(
            "At SES > Identities, verify the From domain with Easy DKIM, and at SES > Account dashboard request "
            "production access: until then SES sends to verified addresses alone.",
            "At IAM, make a user whose policy allows ses:SendEmail, ses:SendRawEmail, ses:GetAccount and "
            "ses:GetMessageInsights, and an access key; enter access_key_id, secret_access_key and the region of SES, "
            "such as eu-west-1. Temporary keys also have a session_token.",
            "At SNS > Topics, in the same region, make a topic of the type Standard, set its SignatureVersion to 2 and "
            "enter its ARN with rotateWebhookSecret; webhooks of other topics are refused.",
            "At the topic, make a subscription with the protocol HTTPS and the endpoint {url}; keep raw message "
            "delivery off, for raw messages are not signed, and set its delivery policy to retry for 3,600 seconds. "
            "Carepost confirms it by itself.",
            "At SES > Configuration sets, make a set, enter its name as configuration_set, and add an event "
            "destination of the type Amazon SNS with that topic and all event types.",
            "To have missed events found again, switch Virtual Deliverability Manager on.",
        ),
    )
    kept_headers: Sequence[str] = ()  # the envelope holds its own proof
    webhook_bytes: int = 1 << 20

    def check_credentials(self, credentials: Mapping[str, str]) -> None:
        exchange.check_credentials(self.credential_fields, credentials)
        if not re.fullmatch(_REGION, credentials["region"], re.ASCII):
            raise CredentialsIncomplete("region", "Enter the region of SES as AWS writes it, such as eu-west-1.")
        if not _CONFIGURATION_SET.fullmatch(credentials.get("configuration_set") or "-"):
            raise CredentialsIncomplete(
                "configuration_set", "A configuration set's name has up to 64 letters, digits, dashes and underscores."
            )
        if not sigv4.is_installed():
            raise CredentialsIncomplete(
                "secret_access_key", "Requests to AWS can't be signed here: install Carepost with the extra ses."
            )

    def check_webhook_secret(self, secret: str) -> None:
        sns.check_secret(SNS, secret)

    def certificate_url(self, request: WebhookRequest, secrets: Sequence[str]) -> str:
        return sns.certificate_url(SNS, request, secrets)

    def send_request(self, email: Email, credentials: Mapping[str, str]) -> HttpRequest:
        url = f"{_base_url(credentials)}/v2/email/outbound-emails"
        return _signed(exchange.json_post(url, {}, _payload(email, credentials)), credentials)

    def read_answer(self, response: HttpResponse) -> Answer:
        answer = reading.decode_object(response.body)
        provider_message_id = reading.text(answer, "MessageId")
        if response.status == 200 and provider_message_id:
            return Accepted(provider_message_id)
        error, message = _error(response)
        kind = {**_ERRORS, **_ERRORS_FOR_NOW}.get(error, FailureKind.OTHER)
        if kind is FailureKind.CONTENT:
            kind = next((said for part, said in _MESSAGES if part in message.lower()), kind)
        failure = Failure(kind, reason=one_line(": ".join(filter(None, (error, message)))) or f"HTTP {response.status}")
        may_pass = error in _ERRORS_FOR_NOW or any(part in message.lower() for part in _CLOCK)
        if may_pass or exchange.passes(response.status):
            return TryAgain(failure, exchange.wait(response.headers))
        return Refused(failure)

    def ask_request(self, question: Question, credentials: Mapping[str, str]) -> HttpRequest | None:
        if not question.provider_message_id:
            return None
        url = f"{_base_url(credentials)}/v2/email/insights/{quote(question.provider_message_id, safe='')}/"
        return _signed(exchange.get(url, {}), credentials)

    def read_told(self, response: HttpResponse, question: Question, credentials: Mapping[str, str]) -> Told | NotTold:
        """APIReference-V2 "GetMessageInsights": what became of an email to one recipient."""
        insights = reading.decode_object(response.body).get("Insights")
        if response.status != 200 or not isinstance(insights, list):
            return exchange.not_told(response)
        return Told(amazon_ses_events.read_insights(insights, question))

    def check_request(self, credentials: Mapping[str, str]) -> HttpRequest:
        """APIReference-V2 "GetAccount"."""
        return _signed(exchange.get(f"{_base_url(credentials)}/v2/email/account", {}), credentials)

    def read_check(self, response: HttpResponse) -> CredentialsCheck:
        if response.status == 200:
            return _read_account(reading.decode_object(response.body))
        error, _ = _error(response)
        if response.status == 403 and error == "AccessDeniedException":
            return CredentialsCheck(
                None, "Amazon SES knows the key, but its policy lacks ses:GetAccount, so no more can be told."
            )
        if response.status in {400, 403} and error == "ExpiredTokenException":
            return CredentialsCheck(False, "The session token has expired; enter a new key.")
        return exchange.read_check(self.label, response)

    def verify_webhook(self, request: WebhookRequest, secrets: Sequence[str]) -> None:
        sns.verify(SNS, request, secrets)

    def read_webhook(self, body: bytes, headers: Mapping[str, str]) -> Reading:
        return sns.read(SNS, body, amazon_ses_events.read_message)


def _base_url(credentials: Mapping[str, str]) -> str:
    region = credentials["region"]
    partition = next((name for name in ("cn", "eusc") if region.startswith(f"{name}-")), "")
    domain = _DOMAINS[f"aws-{partition}" if partition else "aws"]
    return exchange.base_url(credentials, f"https://email.{region}.{domain}")


def _signed(request: HttpRequest, credentials: Mapping[str, str]) -> HttpRequest:
    signer = sigv4.SigV4(
        credentials["access_key_id"],
        credentials["secret_access_key"],
        credentials.get("session_token") or None,
        credentials["region"],
        "ses",
    )
    return replace(request, signer=signer)


def _payload(email: Email, credentials: Mapping[str, str]) -> dict[str, object]:
    # SES doesn't speak SMTPUTF8: domains go in ASCII.
    email = replace(
        email,
        sender=exchange.with_ascii_domain(email.sender),
        recipient=exchange.with_ascii_domain(email.recipient),
        reply_to=exchange.with_ascii_domain(email.reply_to) if email.reply_to else None,
    )
    payload: dict[str, object] = {
        "Destination": {"ToAddresses": [email.recipient.email]},
        "Content": {"Raw": {"Data": base64.b64encode(mime.render(email)).decode()}},
        # A tag comes back in every event of a configuration set and is no part of the email. The Message-ID comes
        # back too, where headers do: SES sends the email under one of its own.
        "EmailTags": [{"Name": reading.METADATA_KEY, "Value": str(email.id)}],
        "ConfigurationOverrides": {
            "Tracking": {
                "OpenTrackingEnabled": "ENABLED" if email.track_opens else "DISABLED",
                "ClickTrackingEnabled": "DISABLED",  # links in health mail are not ours to rewrite
            }
        },
    }
    if configuration_set := credentials.get("configuration_set"):
        payload["ConfigurationSetName"] = configuration_set
    return payload


def _error(response: HttpResponse) -> tuple[str, str]:
    """The type and the message of an error; the type stands in a header or in the body, with more about it."""
    body = reading.decode_object(response.body)
    error = one_line(response.headers.get("x-amzn-errortype", "")) or reading.text(body, "__type")
    error = error.partition(":")[0].rpartition("#")[2]
    return error, reading.text(body, "message") or reading.text(body, "Message")


def _read_account(account: reading.Fields) -> CredentialsCheck:
    if account.get("EnforcementStatus") == "SHUTDOWN" or account.get("SendingEnabled") is False:
        return CredentialsCheck(
            False, "Amazon SES takes the key, but has paused the account's sending: see SES > Reputation metrics."
        )
    if account.get("ProductionAccessEnabled") is False:
        return CredentialsCheck(
            False,
            "Amazon SES takes the key, but sends to verified addresses alone: request production access in its region.",
        )
    if account.get("EnforcementStatus") == "PROBATION":
        return CredentialsCheck(True, "Amazon SES takes the key. The account is under review: see SES > Reputation.")
    if reading.nested(account, "VdmAttributes").get("VdmEnabled") != "ENABLED":
        return CredentialsCheck(
            True, "Amazon SES takes the key. Missed events can't be asked for: Virtual Deliverability Manager is off."
        )
    return CredentialsCheck(True, "Amazon SES takes the key.")
