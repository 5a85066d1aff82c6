"""What is said of a status: the code, the text, and what staff can do next."""

from dataclasses import dataclass
from enum import Enum

from mail.failure import FailureKind


class ExplanationCode(Enum):
    """Why a message has its status; stable for programs."""

    QUEUED = "queued"
    """Waiting for a worker, a matter of seconds."""
    SCHEDULED = "scheduled"
    """Waiting for the time that staff chose."""
    RETRYING = "retrying"
    """The mail server put us off; we try again by ourselves."""
    CANCELLED = "cancelled"
    """Staff withdrew it before it was sent."""
    REFUSED = "refused"
    """Our ESP or the practice's own server refused it for good."""
    AWAITING_ANSWER = "awaiting_answer"
    """Sent, and the destination hasn't answered yet."""
    DELAYED = "delayed"
    """The destination put it off; the ESP goes on trying."""
    NOT_CONFIRMED = "not_confirmed"
    """Sent, and no answer came within the time in which answers come."""
    OWN_SERVER = "own_server"
    """Sent through the practice's own server, which reports nothing back."""
    BEFORE_TRACKING = "before_tracking"
    """Sent before tracking began."""
    PROVIDER_CANNOT_CONFIRM = "provider_cannot_confirm"
    """This ESP reports no deliveries."""
    MAY_ARRIVE_TWICE = "may_arrive_twice"
    """Our connection broke after the handover and we tried again."""
    DELIVERED = "delivered"
    """Delivered; an open shows only where the email program loads images."""
    LOADED_BY_PROXY = "loaded_by_proxy"
    """Loaded by a mail proxy or scanner only, which proves no reader; delivered, where this ESP reports deliveries."""
    TRACKING_OFF = "tracking_off"
    """Delivered; open tracking is off for this patient."""
    OPENS_UNKNOWN = "opens_unknown"
    """Delivered; this ESP can't report opens."""
    COMPLAINED = "complained"
    """Delivered, and the patient marked it as spam."""
    UNSUBSCRIBED = "unsubscribed"
    """Delivered, and the patient unsubscribed by it."""
    OPENED = "opened"
    """Opened by the patient, or somebody with access to the mailbox."""
    RETURNED_AFTER_DELIVERY = "returned_after_delivery"
    """Confirmed as delivered (or opened) first, then came back."""
    ADDRESS_UNKNOWN = "address_unknown"
    """Not delivered: the address does not exist."""
    DOMAIN_UNKNOWN = "domain_unknown"
    """Not delivered: the part after the @ takes no mail."""
    MAILBOX_FULL = "mailbox_full"
    """Not delivered: the mailbox is full."""
    REFUSED_AS_SPAM = "refused_as_spam"
    """Not delivered: the destination took it for spam."""
    SENDER_REPUTATION = "sender_reputation"
    """Not delivered: the destination distrusts our sending server."""
    SENDER_AUTHENTICATION = "sender_authentication"
    """Not delivered: the From domain isn't authenticated."""
    SUPPRESSED = "suppressed"
    """Not delivered: the ESP no longer writes to this address."""
    TOO_LARGE = "too_large"
    """Not delivered: the email is too big for the destination."""
    REFUSED_BY_POLICY = "refused_by_policy"
    """Not delivered: a rule of the destination forbids it."""
    UNREACHABLE = "unreachable"
    """Not delivered: the destination could not be reached in time."""
    CONTENT_INVALID = "content_invalid"
    """Not delivered: the email is malformed."""
    ACCOUNT_PROBLEM = "account_problem"
    """Not delivered: our sending account is misconfigured, blocked or over its quota."""
    NOT_DELIVERED = "not_delivered"
    """Not delivered, without a reason that we can read."""
    SOFT_BOUNCE = "soft_bounce"
    """Came back, and the destination didn't say that this is final."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`text` says why, `next_step` what staff can do; empty where there is nothing to do."""

    code: ExplanationCode
    text: str
    next_step: str = ""


CALL = "Call the patient."
_CHECK = "Check the spelling of the address with the patient, correct it and send again."

RETURNED: dict[FailureKind, Explanation] = {
    FailureKind.ADDRESS_UNKNOWN: Explanation(
        ExplanationCode.ADDRESS_UNKNOWN, "The destination says that this address does not exist.", _CHECK
    ),
    FailureKind.DOMAIN_UNKNOWN: Explanation(
        ExplanationCode.DOMAIN_UNKNOWN, "The part of the address after the @ takes no mail.", _CHECK
    ),
    FailureKind.MAILBOX_FULL: Explanation(
        ExplanationCode.MAILBOX_FULL,
        "The patient's mailbox is full.",
        "Call the patient; send again once there is room.",
    ),
    FailureKind.SPAM: Explanation(
        ExplanationCode.REFUSED_AS_SPAM,
        "The destination took the email for spam.",
        "Call the patient. Reword the email, with fewer links, before sending it again.",
    ),
    FailureKind.REPUTATION: Explanation(
        ExplanationCode.SENDER_REPUTATION,
        "The destination distrusts our sending server. This is not the patient's fault.",
        "Call the patient, and tell your administrator that the sending server's reputation is low.",
    ),
    FailureKind.AUTHENTICATION: Explanation(
        ExplanationCode.SENDER_AUTHENTICATION,
        "The practice's sending domain or account could not be authenticated. This is not the patient's fault.",
        "Tell your administrator to check SPF, DKIM, DMARC and the account's credentials.",
    ),
    FailureKind.SUPPRESSED: Explanation(
        ExplanationCode.SUPPRESSED,
        "The email service never tried: the address is on its do-not-send list, after an earlier bounce, "
        "complaint or unsubscription.",
        "Call the patient. If the address works, ask your administrator to take it off the list.",
    ),
    FailureKind.TOO_LARGE: Explanation(
        ExplanationCode.TOO_LARGE, "The email is bigger than the destination takes.", "Shorten it and send again."
    ),
    FailureKind.POLICY: Explanation(
        ExplanationCode.REFUSED_BY_POLICY, "A rule of the destination refused the email.", CALL
    ),
    FailureKind.UNREACHABLE: Explanation(
        ExplanationCode.UNREACHABLE,
        "The destination could not be reached, and sending was given up.",
        "Call the patient, or send again later.",
    ),
    FailureKind.CONTENT: Explanation(
        ExplanationCode.CONTENT_INVALID, "The email was refused as malformed.", "Write it anew and send again."
    ),
    FailureKind.ACCOUNT: Explanation(
        ExplanationCode.ACCOUNT_PROBLEM,
        "The sending account is misconfigured, blocked or over its quota.",
        "Tell your administrator; then send again.",
    ),
    FailureKind.OTHER: Explanation(
        ExplanationCode.NOT_DELIVERED, "The email was not delivered, and no reason was given that we can read.", CALL
    ),
}
