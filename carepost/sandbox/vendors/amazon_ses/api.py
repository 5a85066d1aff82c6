"""Amazon SES, API v2: `/v2/email/...`, with SNS beside it for the events.

Source: AWS, Amazon SES API v2 reference, "SendEmail", "GetMessageInsights", "GetAccount", "CreateConfigurationSet",
"CreateConfigurationSetEventDestination", "Common errors".
"""

import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from carepost.sandbox.faults import Faults
from carepost.sandbox.post_office import Account, PostOffice
from carepost.sandbox.vendors.amazon_ses import events, sigv4, submission
from carepost.sandbox.vendors.amazon_ses.sigv4 import NotSigned
from carepost.sandbox.vendors.amazon_ses.sns import Sns, signed
from carepost.sandbox.vendors.amazon_ses.submission import SubmissionRefused
from carepost.sandbox.vendors.base import Counter, Endpoint, TooLarge, json_object, read_body

_MAX_BODY = 54 * 1024 * 1024  # "SendEmail": 40 MB of message, in Base64
_SETS = "/v2/email/configuration-sets"
_STATUSES: Mapping[str, int] = {
    "BadRequestException": 400,
    "SerializationException": 400,
    "MessageRejected": 400,
    "NotFoundException": 404,
    "AlreadyExistsException": 400,
    "TooManyRequestsException": 429,
}

_Signed = Callable[[Request, bytes], Awaitable[Response]]


class _Refused(Exception):
    """A request is refused; `code` is AWS's own."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Destination:
    """Where a configuration set publishes which events."""

    topic_arn: str
    types: frozenset[str]


class AmazonSes:
    """One AWS account."""

    name: str = "amazon_ses"

    def __init__(self, office: PostOffice, faults: Faults) -> None:
        self._office = office
        self._counter = Counter(office, faults, self.name)
        self._account = Account(self.name, 0, events.tell)
        self._sns = Sns(self._publishes, lambda subscription: office.add_webhook(self._account, subscription))
        self._sets: dict[str, dict[str, _Destination]] = {}

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/v2/email/outbound-emails", _by_signature(self.send), methods=["POST"]),
            Route("/v2/email/account", _by_signature(self.account)),
            # The documented path ends with a slash; some SDKs leave it out.
            Route("/v2/email/insights/{id}", _by_signature(self.insights)),
            Route("/v2/email/insights/{id}/", _by_signature(self.insights)),
            Route(_SETS, _by_signature(self.create_set), methods=["POST"]),
            Route(f"{_SETS}/{{name}}", _by_signature(self.show_set)),
            Route(f"{_SETS}/{{name}}/event-destinations", _by_signature(self.destinations), methods=["GET", "POST"]),
            *self._sns.routes(),
        ]

    async def send(self, request: Request, body: bytes) -> Response:
        fault = await self._counter.fault()
        if fault and fault.send_status:
            code = "TooManyRequestsException" if fault.send_status == 429 else "InternalFailure"
            return _error(fault.send_status, code, "A fault that was asked for.", fault.headers)
        try:
            letters = submission.read(body)
        except SubmissionRefused as problem:
            raise _Refused(problem.code, str(problem)) from problem
        name = letters[0].extra["configuration_set"]
        if name and name not in self._sets:
            raise _Refused("NotFoundException", f"Configuration set <{name}> does not exist.")
        # A set that publishes opens is one whose emails carry the image.
        tracked = any("OPEN" in destination.types for destination in self._sets.get(name, {}).values())
        message_id = events.new_id()
        override = letters[0].extra["opens"]
        letters = [replace(letter, open_tracking=tracked if override is None else override) for letter in letters]
        await self._counter.take(request, self._account, message_id, letters, fault)
        return JSONResponse({"MessageId": message_id})

    async def account(self, _: Request, __: bytes) -> Response:
        quota = {"Max24HourSend": 50000.0, "MaxSendRate": 14.0, "SentLast24Hours": float(self._office.accepted)}
        return JSONResponse(
            {
                "SendQuota": quota,
                "SendingEnabled": True,
                "ProductionAccessEnabled": True,
                "EnforcementStatus": "HEALTHY",
                "DedicatedIpAutoWarmupEnabled": False,
                "SuppressionAttributes": {"SuppressedReasons": ["BOUNCE", "COMPLAINT"]},
                "VdmAttributes": {"VdmEnabled": "ENABLED"},
            }
        )

    async def insights(self, request: Request, _: bytes) -> Response:
        found = self._office.find(self._account, request.path_params["id"])
        if not found:
            raise _Refused("NotFoundException", "Message does not exist.")
        letter = found[0].letter
        return JSONResponse(
            {
                "MessageId": found[0].id,
                "FromEmailAddress": letter.sender,
                "Subject": letter.subject,
                "EmailTags": [{"Name": name, "Value": value} for name, value in letter.metadata.items()],
                "Insights": [
                    {
                        "Destination": message.letter.recipient,
                        "Isp": "UNKNOWN_ISP",
                        "Events": [events.insight(event) for event in message.so_far(time.time())],
                    }
                    for message in found
                ],
            }
        )

    async def create_set(self, _: Request, body: bytes) -> Response:
        name = _object(body).get("ConfigurationSetName")
        if not isinstance(name, str) or not name:
            raise _Refused("BadRequestException", "ConfigurationSetName is needed.")
        if name in self._sets:
            raise _Refused("AlreadyExistsException", f"Configuration set <{name}> already exists.")
        self._sets[name] = {}
        return JSONResponse({})

    async def show_set(self, request: Request, _: bytes) -> Response:
        self._destinations(request)
        return JSONResponse({"ConfigurationSetName": request.path_params["name"]})

    async def destinations(self, request: Request, body: bytes) -> Response:
        kept = self._destinations(request)
        if request.method == "GET":
            shown = [
                {
                    "Name": name,
                    "Enabled": True,
                    "MatchingEventTypes": sorted(each.types),
                    "SnsDestination": {"TopicArn": each.topic_arn},
                }
                for name, each in kept.items()
            ]
            return JSONResponse({"EventDestinations": shown})
        asked = _object(body)
        name, wish = asked.get("EventDestinationName"), asked.get("EventDestination")
        if not isinstance(name, str) or not isinstance(wish, dict) or wish.get("Enabled") is not True:
            raise _Refused("BadRequestException", "EventDestinationName and an enabled EventDestination are needed.")
        types, arn = wish.get("MatchingEventTypes"), wish.get("SnsDestination", {}).get("TopicArn")
        if not isinstance(types, list) or not types or not set(types) <= set(events.TYPES.values()):
            raise _Refused("BadRequestException", f"MatchingEventTypes are {', '.join(events.TYPES.values())}.")
        topic = self._sns.topics.get(str(arn))
        if topic is None:
            raise _Refused("BadRequestException", "Invalid SNS topic.")
        kept[name] = _Destination(topic.arn, frozenset(types))
        self._sns.announce(topic)
        return JSONResponse({})

    def _destinations(self, request: Request) -> dict[str, _Destination]:
        name = request.path_params["name"]
        if name not in self._sets:
            raise _Refused("NotFoundException", f"Configuration set <{name}> does not exist.")
        return self._sets[name]

    def _publishes(self, topic_arn: str, event: Any) -> bool:
        """Whether an event goes to a topic: its message's configuration set decides."""
        [name] = event["mail"]["tags"]["ses:configuration-set"]
        return any(
            destination.topic_arn == topic_arn and events.TYPES[event["eventType"]] in destination.types
            for destination in self._sets.get(name, {}).values()
        )


def _by_signature(endpoint: _Signed) -> Endpoint:
    """The endpoint for requests that are signed."""

    async def checked(request: Request) -> Response:
        try:
            body = await read_body(request, _MAX_BODY)
            sigv4.verify(signed(request, body), "ses")
            return await endpoint(request, body)
        except TooLarge:
            return _error(413, "RequestEntityTooLargeException", "The request is larger than 54 MB.")
        except NotSigned as problem:
            return _error(403, problem.code, str(problem))
        except _Refused as problem:
            return _error(_STATUSES[problem.code], problem.code, str(problem))

    return checked


def _object(body: bytes) -> dict[str, Any]:
    try:
        return json_object(body)
    except ValueError as error:
        raise _Refused("SerializationException", "The request body is no JSON object.") from error


def _error(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """The code stands in a header, the text in the body."""
    named = {"x-amzn-ErrorType": code, "x-amzn-RequestId": str(uuid.uuid4()), **(headers or {})}
    return JSONResponse({"message": message}, status, named)
