"""Topics of SNS and their subscriptions, and how SNS posts to one: nothing but a question until it is confirmed.

Sources: AWS, Amazon SNS developer guide, "HTTP/HTTPS headers", "JSON format", "Message delivery retries".
"""

import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import orjson

from carepost.sandbox.message import SandboxEvent
from carepost.sandbox.vendors.amazon_ses.notary import Notary
from carepost.sandbox.vendors.base import iso

# "Delivery policies": three retries, 20 seconds apart. All but 5xx and 429 is taken as it comes.
_SCHEDULE = (20.0, 20.0, 20.0)
_SUBJECT = "Amazon SES Email Event Notification"


@dataclass(slots=True)
class Topic:
    """A topic; `signature_version` is 1 unless the topic says 2."""

    arn: str
    region: str
    signature_version: str = "1"
    subscriptions: list["Subscription"] = field(default_factory=list)


class Subscription:
    """An endpoint's subscription to a topic. `publishes` tells whether an event goes to a topic."""

    batch: int = 1

    def __init__(self, topic: Topic, endpoint: str, notary: Notary, publishes: Callable[[str, Any], bool]) -> None:
        self.topic = topic
        self.arn = f"{topic.arn}:{uuid.uuid4()}"
        self.token = secrets.token_hex(128)
        self.confirmed = False
        self._endpoint = endpoint
        self._notary = notary
        self._publishes = publishes

    def question(self) -> SandboxEvent:
        """What is posted first."""
        query = {"Action": "ConfirmSubscription", "TopicArn": self.topic.arn, "Token": self.token}
        body = {
            "Type": "SubscriptionConfirmation",
            "Token": self.token,
            "Message": f"You have chosen to subscribe to the topic {self.topic.arn}.\nTo confirm the subscription, "
            "visit the SubscribeURL included in this message.",
            "SubscribeURL": f"{self._host}/?{urlencode(query)}",
        }
        return SandboxEvent(str(uuid.uuid4()), None, time.time(), body)

    def announcement(self) -> SandboxEvent:
        """What SES publishes when a configuration set begins to publish to the topic."""
        body = {"Message": "Successfully validated SNS topic for Amazon SES event publishing."}
        return SandboxEvent(str(uuid.uuid4()), None, time.time(), body)

    @property
    def _host(self) -> str:
        return f"https://sns.{self.topic.region}.amazonaws.com"

    def wants(self, event: SandboxEvent) -> bool:
        if event.happening is None:
            return self.confirmed or event.body.get("Token") == self.token
        return self.confirmed and self._publishes(self.topic.arn, event.body)

    def url(self) -> str:
        return self._endpoint

    def body(self, events: Sequence[SandboxEvent]) -> bytes:
        [event] = events
        what = event.body
        if event.happening is not None:
            what = {"Subject": _SUBJECT, "Message": orjson.dumps(event.body).decode()}
        message = {
            "Type": "Notification",
            "MessageId": str(uuid.uuid4()),
            "TopicArn": self.topic.arn,
            **what,
            "Timestamp": iso(time.time()),
            "SignatureVersion": self.topic.signature_version,
            "SigningCertURL": f"{self._host}/{self._notary.file_name}",
        }
        if message["Type"] == "Notification":
            query = urlencode({"Action": "Unsubscribe", "SubscriptionArn": self.arn})
            message["UnsubscribeURL"] = f"{self._host}/?{query}"
        message["Signature"] = self._notary.sign(message, self.topic.signature_version)
        return orjson.dumps(message)

    def headers(self, events: Sequence[SandboxEvent], body: bytes) -> Mapping[str, str]:
        message = orjson.loads(body)
        headers = {
            # SNS says text, and posts JSON.
            "Content-Type": "text/plain; charset=UTF-8",
            "User-Agent": "Amazon Simple Notification Service Agent",
            "x-amz-sns-message-type": message["Type"],
            "x-amz-sns-message-id": message["MessageId"],
            "x-amz-sns-topic-arn": self.topic.arn,
        }
        if message["Type"] == "Notification":
            headers["x-amz-sns-subscription-arn"] = self.arn
        return headers

    def pauses(self, events: Sequence[SandboxEvent]) -> Sequence[float]:
        return _SCHEDULE

    def settles(self, status: int) -> bool:
        return 200 <= status < 500 and status != 429
