"""Books: what must balance once the house is well again, whatever happened to it."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2

from mail.retry import FIRST_DELAY, LONGEST_DELAY
from tests.faults.house import House
from tests.faults.load import Sends, Watcher, read_list
from tests.faults.process import PATIENCE

_MESSAGES = """query ($after: String) { messages(first: 100, after: $after) {
  nodes { id subject status explanation { code text } events(first: 100) { nodes { kind source } } }
  pageInfo { hasNextPage endCursor }
} }"""
# Several of ours for one of the sandbox's: which of them it is, the providers' tests say.
_WORDS = {
    "SOFT_BOUNCED": "BOUNCED",
    "REJECTED": "BOUNCED",
    "AUTO_REPLIED": "BOUNCED",
    "BOUNCE": "BOUNCED",
    "DROPPED": "BOUNCED",
    "OPEN": "OPENED",
    "SPAMREPORT": "COMPLAINED",
    "UNSUBSCRIBE": "UNSUBSCRIBED",
    "PROCESSED": "QUEUED",
}


@dataclass(slots=True, kw_only=True)
class Balance:
    """The sums of one run."""

    acknowledged: int
    sent_twice: int
    """Emails that a server took twice: each after an attempt that had no answer, and its message says so."""
    ambiguous: int
    """Messages whose handover had no answer at least once."""
    posted: int
    """Events that a webhook brought and that were answered 2xx."""
    settle_seconds: float
    """From the end of the faults until the last view was right."""

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} acknowledged, each sent; {self.sent_twice} twice, said so; {self.posted} events, "
            f"each applied once; settled in {self.settle_seconds:.1f} s"
        )


async def balance(house: House, sends: Sends, watchers: Sequence[Watcher], within: float = PATIENCE) -> Balance:
    """Waits until all is done, then asserts that nothing was lost, applied twice, or sent twice without saying so. It
    may take `within` seconds, and as long as the back-off of what was tried in vain says."""
    within += await _longest_pause(house)
    began = time.monotonic()
    found: Balance | None = None
    problems = ["nothing was looked at"]
    while time.monotonic() - began < within:
        try:
            found, problems = await _look(house, sends, watchers)
        except (httpx2.HTTPError, AssertionError) as error:
            problems = [f"the house could not be asked: {type(error).__name__} {error}"]
        if not problems and found is not None:
            found.settle_seconds = time.monotonic() - began
            return found
        await asyncio.sleep(0.25)
    raise AssertionError(f"the books don't balance: {len(problems)} problems, such as {problems[:8]}")


async def _longest_pause(house: House) -> float:
    """Seconds until the last message that waits is tried again, be it that the attempt in hand fails too."""
    rows = await house.ask(
        "SELECT attempts, extract(epoch FROM due_at - now())::float AS wait FROM message WHERE verdict = 'queued'"
    )
    pauses = [row["wait"] + min(FIRST_DELAY * 2 ** row["attempts"], LONGEST_DELAY).total_seconds() for row in rows]
    return max([0.0, *pauses])


async def _look(house: House, sends: Sends, watchers: Sequence[Watcher]) -> tuple[Balance, list[str]]:
    messages = {message["id"]: message for message in await read_messages(house)}
    accepted = await esp_accepted(house)
    mails = await mailbox(house)
    problems: list[str] = []
    handed_over = Counter(mail["subject"] for mail in accepted) + Counter(mails)
    twice = ambiguous = 0
    for subject, message_id in sends.taken.items():
        message = messages.pop(message_id, None)
        if message is None or message["subject"] != subject:
            problems.append(f"{subject} was acknowledged and is gone")
            continue
        doubts = sum(event["kind"] == "ATTEMPT_AMBIGUOUS" for event in message["events"]["nodes"])
        ambiguous += doubts > 0
        count = handed_over.pop(subject, 0)
        if message["status"] in {"QUEUED", "FAILED"} or count == 0:
            problems.append(f"{subject} is {message['status']}, handed over {count} times")
        if count > 1:
            twice += 1
            # The evidence is there whatever became of it; where a patient may have got it, the explanation says it.
            said = message["status"] == "NOT_DELIVERED" or "twice" in message["explanation"]["text"]
            if count > 1 + doubts or not said:
                problems.append(f"{subject} was sent {count} times and says {message['explanation']['text']!r}")
    problems += [f"{message['subject']} stands and nobody was told so" for message in messages.values()]
    problems += [f"{subject} was handed over and stands nowhere" for subject in handed_over]
    posted, wrong = _events(await read_messages(house), accepted)
    problems += wrong
    problems += await _inbox(house)
    truth, _ = await read_list(house)
    for number, watcher in enumerate(watchers, 1):
        missing = {key: (watcher.statuses.get(key), status) for key, status in truth.items()}
        missing = {key: pair for key, pair in missing.items() if pair[0] != pair[1]}
        if missing:
            problems.append(
                f"watcher {number} sees {len(missing)} messages wrong, such as {list(missing.values())[:3]}"
            )
    sums = Balance(
        acknowledged=len(sends.taken), sent_twice=twice, ambiguous=ambiguous, posted=posted, settle_seconds=0
    )
    return sums, problems


def _events(messages: Sequence[dict[str, Any]], accepted: Sequence[dict[str, Any]]) -> tuple[int, list[str]]:
    """Whether each message has the events that were posted for it and answered 2xx, each once."""
    ours = {
        message["subject"]: Counter(
            _word(event["kind"]) for event in message["events"]["nodes"] if event["source"] == "WEBHOOK"
        )
        for message in messages
    }
    theirs: dict[str, set[tuple[str, str, str]]] = {}
    problems: list[str] = []
    for mail in accepted:
        told = theirs.setdefault(mail["subject"], set())
        for event in mail["events"]:
            if any(200 <= (post["status"] or 0) < 300 for post in event["posts"]):
                # SendGrid's ids may change from one POST to the next: an event is what happened, in which second
                # and at which of its own attempts.
                which = f"{event['timestamp']}/{event.get('attempt', '')}"
                told.add((_word(event["event"].upper()), mail["message_id"], which))
            else:
                problems.append(f"{mail['subject']}: {event['event']} is still to be posted")
    for subject, told in theirs.items():
        words, kept = Counter(word for word, _, _ in told), ours.get(subject, Counter())
        if words != kept:
            problems.append(f"{subject}: told {dict(words)}, kept {dict(kept)}")
    return sum(len(told) for told in theirs.values()), problems


def _word(kind: str) -> str:
    return _WORDS.get(kind, kind)


async def _inbox(house: House) -> list[str]:
    rows = await house.ask("SELECT state::text, count(*), count(error) AS errors FROM webhook_delivery GROUP BY state")
    problems = [f"{row['count']} webhooks are {row['state']}" for row in rows if row["state"] != "applied"]
    problems += [f"{row['errors']} webhooks have errors" for row in rows if row["errors"]]
    parked = (await house.ask("SELECT count(*) FROM parked_event"))[0]["count"]
    return [*problems, *([f"{parked} events are parked"] if parked else [])]


async def read_messages(house: House) -> list[dict[str, Any]]:
    """Every message with its evidence, as a front-end reads it."""
    found: list[dict[str, Any]] = []
    after = None
    while True:
        page = (await house.client(_MESSAGES, after=after))["messages"]
        found += page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            return found
        after = page["pageInfo"]["endCursor"]


async def esp_accepted(house: House) -> list[dict[str, Any]]:
    async with httpx2.AsyncClient(base_url=house.esp_url, timeout=30, trust_env=False) as client:
        mails: list[dict[str, Any]] = (await client.get("/messages")).raise_for_status().json()
        return mails


async def mailbox(house: House) -> list[str]:
    """The subjects of the emails that the mail server took."""
    async with httpx2.AsyncClient(base_url=house.mailbox_url, timeout=30, trust_env=False) as client:
        mails = (await client.get("/messages")).raise_for_status().json()
    return [dict(mail["headers"])["Subject"] for mail in mails]
