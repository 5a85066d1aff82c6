"""Amazon SNS: the Query API at `/?Action=...` and the certificate.

Source: AWS, Amazon SNS API reference, "CreateTopic", "SetTopicAttributes", "Subscribe", "ConfirmSubscription",
"Common errors".
"""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from carepost.sandbox.outbox import Outbox
from carepost.sandbox.vendors.amazon_ses import sigv4
from carepost.sandbox.vendors.amazon_ses.events import ACCOUNT_ID
from carepost.sandbox.vendors.amazon_ses.notary import Notary
from carepost.sandbox.vendors.amazon_ses.sigv4 import NotSigned, Signed
from carepost.sandbox.vendors.amazon_ses.topic import Subscription, Topic
from carepost.sandbox.vendors.base import RouteWhen

_NAMESPACE = "http://sns.amazonaws.com/doc/2010-03-31/"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,256}")
_UNSIGNED = frozenset({"ConfirmSubscription"})
_STATUSES: Mapping[str, int] = {"NotFound": 404, "InvalidParameter": 400, "InvalidAction": 400}

Fields = Mapping[str, str]


class _Refused(Exception):
    """An action is refused; `code` is AWS's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Sns:
    """The topics of one AWS account."""

    def __init__(self, publishes: Callable[[str, Any], bool], subscribed: Callable[[Subscription], Outbox]) -> None:
        self._publishes = publishes
        self._subscribed = subscribed
        self._notary = Notary()
        self._outboxes: dict[str, Outbox] = {}
        self.topics: dict[str, Topic] = {}

    def routes(self) -> Sequence[BaseRoute]:
        return [
            # The sandbox's page is at / too.
            RouteWhen("/", self.act, ["GET", "POST"], _is_action),
            Route("/SimpleNotificationService-{name}.pem", self.certificate),
        ]

    def announce(self, topic: Topic) -> None:
        """Publishes that SES will publish here."""
        for subscription in topic.subscriptions:
            self._outboxes[subscription.arn].add(subscription.announcement())

    async def certificate(self, request: Request) -> Response:
        if request.url.path != f"/{self._notary.file_name}":
            return Response(status_code=403)  # what AWS's store answers for a file that isn't there
        return Response(self._notary.pem, media_type="application/x-pem-file")

    async def act(self, request: Request) -> Response:
        body = await request.body()
        fields = dict(parse_qsl(request.url.query)) | dict(parse_qsl(body.decode("utf-8", "replace")))
        action = fields.get("Action", "")
        actions = {
            "CreateTopic": self._create_topic,
            "SetTopicAttributes": self._set_topic_attributes,
            "Subscribe": self._subscribe,
            "ConfirmSubscription": self._confirm,
        }
        try:
            region = "" if action in _UNSIGNED else sigv4.verify(signed(request, body), "sns")
            if action not in actions:
                raise _Refused("InvalidAction", f"The action {action} is not valid for this endpoint.")
            result = actions[action](fields, region)
        except NotSigned as problem:
            return _error(403, problem.code, str(problem))
        except _Refused as problem:
            return _error(_STATUSES[problem.code], problem.code, str(problem))
        inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in result.items())
        return _xml(200, f"{action}Response", f"<{action}Result>{inside}</{action}Result>{_metadata()}")

    def _create_topic(self, fields: Fields, region: str) -> Fields:
        if not _NAME.fullmatch(fields.get("Name", "")):
            raise _Refused("InvalidParameter", "Invalid parameter: Topic Name")
        arn = f"arn:aws:sns:{region}:{ACCOUNT_ID}:{fields['Name']}"
        topic = self.topics.setdefault(arn, Topic(arn, region))
        attributes = {
            fields[f"{entry}.key"]: fields.get(f"{entry}.value", "")
            for entry in (f"Attributes.entry.{number}" for number in range(1, 20))
            if f"{entry}.key" in fields
        }
        topic.signature_version = _version(attributes.get("SignatureVersion", topic.signature_version))
        return {"TopicArn": arn}

    def _set_topic_attributes(self, fields: Fields, _: str) -> Fields:
        if fields.get("AttributeName") != "SignatureVersion":
            raise _Refused("InvalidParameter", "Invalid parameter: AttributeName (the sandbox has SignatureVersion)")
        self._topic(fields).signature_version = _version(fields.get("AttributeValue", ""))
        return {}

    def _subscribe(self, fields: Fields, _: str) -> Fields:
        topic, protocol, endpoint = self._topic(fields), fields.get("Protocol", ""), fields.get("Endpoint", "")
        if protocol not in {"http", "https"} or not endpoint.startswith(f"{protocol}://"):
            raise _Refused("InvalidParameter", "Invalid parameter: Endpoint must match the protocol, http or https")
        subscription = Subscription(topic, endpoint, self._notary, self._publishes)
        topic.subscriptions.append(subscription)
        self._outboxes[subscription.arn] = self._subscribed(subscription)
        self._outboxes[subscription.arn].add(subscription.question())
        return {"SubscriptionArn": "pending confirmation"}

    def _confirm(self, fields: Fields, _: str) -> Fields:
        token = fields.get("Token", "")
        for subscription in self._topic(fields).subscriptions:
            if subscription.token == token:
                if not subscription.confirmed:
                    subscription.confirmed = True
                    self._outboxes[subscription.arn].add(subscription.announcement())
                return {"SubscriptionArn": subscription.arn}
        raise _Refused("InvalidParameter", "Invalid parameter: Token")

    def _topic(self, fields: Fields) -> Topic:
        topic = self.topics.get(fields.get("TopicArn", ""))
        if topic is None:
            raise _Refused("NotFound", "Topic does not exist")
        return topic


def signed(request: Request, body: bytes) -> Signed:
    """A request as its signature covers it."""
    path = request.scope.get("raw_path", request.url.path.encode()).decode("ascii", "replace")
    return Signed(request.method, path, request.url.query, dict(request.headers), body)


def _is_action(request: Request) -> bool:
    return request.method == "POST" or "Action" in request.query_params


def _version(given: str) -> str:
    if given not in {"1", "2"}:
        raise _Refused("InvalidParameter", "Invalid parameter: SignatureVersion is 1 or 2")
    return given


def _error(status: int, code: str, message: str) -> Response:
    inside = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    return _xml(status, "ErrorResponse", f"{inside}<RequestId>{uuid.uuid4()}</RequestId>")


def _metadata() -> str:
    return f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"


def _xml(status: int, name: str, inside: str) -> Response:
    return Response(f'<{name} xmlns="{_NAMESPACE}">{inside}</{name}>', status, media_type="text/xml")
