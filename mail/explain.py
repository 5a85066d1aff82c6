"""Every status explains itself: why it is what it is, why no more can be known, what staff can do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from mail.explanation import CALL, RETURNED, Explanation, ExplanationCode
from mail.failure import Failure, FailureKind
from mail.providers.base import Capabilities
from mail.status import AccountKind, MessageStatus, Verdict, status_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the explanation is made from: the row of a message, with its evidence summed up.

    Every flag is an OR over events and every time a minimum, so that order and repetition don't matter.
    `limit` is the ceiling. `capabilities` are the ESP's, None for Gmail and SMTP.
    """

    kind: AccountKind
    verdict: Verdict
    limit: Verdict
    capabilities: Capabilities | None = None
    scheduled_at: datetime | None = None
    sent_at: datetime | None = None
    delivered_at: datetime | None = None
    opened_at: datetime | None = None
    track_opens: bool = True
    attempt_failed: bool = False
    ambiguous: bool = False
    deferred: bool = False
    machine_opened: bool = False
    complained: bool = False
    unsubscribed: bool = False
    failure: Failure | None = None


def explain(facts: Facts, now: datetime, silence: timedelta) -> Explanation:
    """Why a message has its status at `now`; `silence` is how long answers may take before a message
    is called not confirmed."""
    status = status_of(facts.verdict, facts.limit)
    match status:
        case MessageStatus.QUEUED:
            return _queued(facts, now)
        case MessageStatus.CANCELLED:
            return Explanation(ExplanationCode.CANCELLED, "It was withdrawn before it was sent.")
        case MessageStatus.FAILED:
            return _refused(facts)
        case MessageStatus.SENT:
            return _sent(facts, now, silence)
        case MessageStatus.DELIVERED:
            return _delivered(facts)
        case MessageStatus.OPENED:
            return Explanation(
                ExplanationCode.OPENED,
                f"It was opened by the patient, or somebody with access to the mailbox.{_twice(facts)}",
            )
        case MessageStatus.NOT_DELIVERED:
            return _not_delivered(facts)
    assert_never(status)


def _queued(facts: Facts, now: datetime) -> Explanation:
    if facts.ambiguous:
        return Explanation(
            ExplanationCode.MAY_ARRIVE_TWICE,
            "Our connection broke after the email was handed over, before an answer came. We try again, so "
            "it may arrive twice.",
        )
    if facts.attempt_failed:
        reply = f" It said: {facts.failure.reason}" if facts.failure and facts.failure.reason else ""
        return Explanation(
            ExplanationCode.RETRYING, f"The mail server could not take it yet. We try again by ourselves.{reply}"
        )
    if facts.scheduled_at is not None and facts.scheduled_at > now:
        return Explanation(
            ExplanationCode.SCHEDULED, "It will be sent at the time chosen.", "It can be cancelled until then."
        )
    return Explanation(ExplanationCode.QUEUED, "It will be sent within seconds.")


def _refused(facts: Facts) -> Explanation:
    outcome = (
        "The mail server refused it. An earlier attempt broke off after the handover, so it may have arrived."
        if facts.ambiguous
        else "The mail server refused it, so nobody accepted it."
    )
    failure = facts.failure
    reply = f" It said: {failure.reason}" if failure and failure.reason else ""
    known = RETURNED.get(failure.kind) if failure else None
    next_step = known.next_step if known else "Correct the email or the account, then send again."
    return Explanation(ExplanationCode.REFUSED, f"{outcome}{reply}", next_step)


def _sent(facts: Facts, now: datetime, silence: timedelta) -> Explanation:
    if not facts.kind.tracked:
        return Explanation(
            ExplanationCode.OWN_SERVER,
            "It was accepted by the practice's own mail server, which reports nothing back, so nothing beyond "
            f"Sent can be known.{_twice(facts)}",
            "Send through an email service provider to see deliveries and opens.",
        )
    if facts.limit is Verdict.SENT:
        return Explanation(
            ExplanationCode.BEFORE_TRACKING, "It was sent before tracking began, so nothing beyond Sent is known."
        )
    if facts.capabilities is not None and not facts.capabilities.delivery:
        return _sent_without_answers(facts)
    if facts.ambiguous:
        return Explanation(
            ExplanationCode.MAY_ARRIVE_TWICE,
            "Our connection broke after the email was handed over, so we tried again: it may arrive twice.",
        )
    if facts.sent_at is not None and now - facts.sent_at >= silence:
        delayed = " The destination had put it off." if facts.deferred else ""
        return Explanation(
            ExplanationCode.NOT_CONFIRMED,
            f"No answer came from the destination. It may have arrived all the same.{delayed}",
            "If it matters, call the patient.",
        )
    if facts.deferred:
        return Explanation(
            ExplanationCode.DELAYED,
            "The destination put it off; the email service goes on trying.",
            "Nothing yet; if it is urgent, call the patient.",
        )
    return Explanation(
        ExplanationCode.AWAITING_ANSWER, "It was sent; the destination's answer is awaited, usually for seconds."
    )


def _sent_without_answers(facts: Facts) -> Explanation:
    """Sent through an ESP that reports no deliveries: what came back would show, and so would an open."""
    twice = _twice(facts)
    if facts.machine_opened:
        return Explanation(
            ExplanationCode.LOADED_BY_PROXY,
            "This email service does not report deliveries. A mail proxy or scanner loaded the email, so it reached a "
            f"mail server; that does not show whether anybody read it.{twice}",
        )
    delayed = " The destination put it off; whether it arrived later does not show." if facts.deferred else ""
    shows_opens = facts.track_opens and facts.capabilities is not None and facts.capabilities.opens
    opens = " An open would show, if the email program loads images." if shows_opens else ""
    return Explanation(
        ExplanationCode.PROVIDER_CANNOT_CONFIRM,
        "This email service does not report deliveries, so silence is normal; a return would show."
        f"{opens}{delayed}{twice}",
        "If it matters, call the patient." if facts.deferred else "",
    )


def _delivered(facts: Facts) -> Explanation:
    twice = _twice(facts)
    if facts.complained:
        return Explanation(
            ExplanationCode.COMPLAINED,
            f"It was delivered, and the patient marked it as spam. The email service may stop writing to them.{twice}",
            "Ask the patient whether they want emails from the practice.",
        )
    if facts.unsubscribed:
        return Explanation(
            ExplanationCode.UNSUBSCRIBED,
            f"It was delivered, and the patient unsubscribed by it.{twice}",
            "Ask the patient how they want to be reached.",
        )
    if facts.capabilities is not None and not facts.capabilities.opens:
        return Explanation(
            ExplanationCode.OPENS_UNKNOWN,
            f"It was delivered. This email service does not report opens.{twice}",
        )
    if not facts.track_opens:
        return Explanation(
            ExplanationCode.TRACKING_OFF,
            f"It was delivered. Open tracking is off for this patient, so an open does not show.{twice}",
        )
    if facts.machine_opened:
        return Explanation(
            ExplanationCode.LOADED_BY_PROXY,
            "It was delivered, and loaded by a mail proxy or scanner. That does not show whether anybody read it."
            f"{twice}",
        )
    return Explanation(
        ExplanationCode.DELIVERED,
        "It was delivered. An open shows only if the email program loads images: a junk folder or blocked images "
        f"hide it.{twice}",
    )


def _not_delivered(facts: Facts) -> Explanation:
    failure = facts.failure
    known = RETURNED[failure.kind if failure else FailureKind.OTHER]
    reply = f" The server said: {failure.reason}" if failure and failure.reason else ""
    if facts.opened_at is not None or facts.delivered_at is not None:
        seen = "opened" if facts.opened_at is not None else "delivered"
        return Explanation(
            ExplanationCode.RETURNED_AFTER_DELIVERY,
            f"It was first reported as {seen}, then it came back, so the patient may not have it. {known.text}{reply}",
            known.next_step or CALL,
        )
    if facts.verdict is Verdict.RETURNED_SOFT:
        return Explanation(
            ExplanationCode.SOFT_BOUNCE,
            f"It came back, and nobody says that this is final; a later delivery would show here. {known.text}{reply}",
            "Call the patient if it is urgent, or send again later.",
        )
    return Explanation(known.code, f"{known.text}{reply}", known.next_step)


def _twice(facts: Facts) -> str:
    return (
        " Our connection broke during the handover and we tried again: it may arrive twice." if facts.ambiguous else ""
    )
