"""Postmark: `/email`, and what may be asked of a server. Sources: Postmark, developer/api (overview, email-api,
messages-api, bounce-api, server-api, webhooks-api).
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from carepost.sandbox.faults import Faults
from carepost.sandbox.post_office import Account, PostOffice
from carepost.sandbox.vendors.base import Counter, RouteWhen, TooLarge, is_json, is_same, iso, json_object, read_body
from carepost.sandbox.vendors.postmark import events, submission
from carepost.sandbox.vendors.postmark.submission import STREAM, SubmissionRefused
from carepost.sandbox.vendors.postmark.webhook import SettingsRefused, StreamWebhook

TOKEN: Final = "00000000-5a4d-4b0c-8000-706f73746d6b"  # noqa: S105 - of a server on this machine that mails nobody
_TOKEN_HEADER: Final = "x-postmark-server-token"  # noqa: S105 - a name
_MAX_BODY = 10 * 1024 * 1024  # email-api: an email with its attachments
_BOUNCED = frozenset({"Bounce", "SpamComplaint"})


class Postmark:
    """One Postmark server with its transactional stream."""

    name: str = "postmark"

    def __init__(self, office: PostOffice, faults: Faults) -> None:
        self._office = office
        self._counter = Counter(office, faults, self.name)
        self._account = Account(self.name, 0, events.tell)
        self._webhooks: dict[int, StreamWebhook] = {}

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/email", self.send, methods=["POST"]),
            Route("/server", self.server),
            Route("/messages/outbound/{id}/details", self.details),
            Route("/bounces", self.bounces),
            RouteWhen("/webhooks", self.webhooks, ["GET", "POST"], lambda request: _TOKEN_HEADER in request.headers),
            RouteWhen(
                "/webhooks/{id:int}", self.webhook, ["GET", "PUT"], lambda request: _TOKEN_HEADER in request.headers
            ),
        ]

    async def send(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        if not is_json(request):
            return _error(422, 409, "JSON required: set Content-Type to application/json.")
        try:
            body = await read_body(request, _MAX_BODY)
        except TooLarge:
            return _error(413, 300, "The email is larger than 10 MB.")
        fault = await self._counter.fault()
        if fault and fault.send_status:
            code = 429 if fault.send_status == 429 else 0
            return _error(fault.send_status, code, "A fault that was asked for.", fault.headers)
        try:
            letters = submission.read(body)
        except SubmissionRefused as problem:
            return _error(422, problem.code, str(problem))
        message_id = str(uuid.uuid4())
        await self._counter.take(request, self._account, message_id, letters, fault)
        to = ", ".join(letter.recipient for letter in letters)
        answer = {"To": to, "SubmittedAt": iso(time.time(), 7), "MessageID": message_id}
        return JSONResponse({**answer, "ErrorCode": 0, "Message": "OK"})

    async def server(self, request: Request) -> Response:
        return _refused(request) or JSONResponse(
            {
                "ID": events.SERVER_ID,
                "Name": "Sandbox",
                "ApiTokens": [TOKEN],
                "DeliveryType": "Live",
                "SmtpApiActivated": True,
                "TrackOpens": False,
                "TrackLinks": "None",
            }
        )

    async def details(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        found = self._office.find(self._account, request.path_params["id"])
        if not found:
            return _error(422, 701, "This message does not exist.")
        letter = found[0].letter
        return JSONResponse(
            {
                "MessageID": found[0].id,
                "MessageStream": STREAM,
                "From": letter.sender,
                "To": [{"Email": message.letter.recipient, "Name": None} for message in found],
                "Cc": [],
                "Bcc": [],
                "Recipients": [message.letter.recipient for message in found],
                "Subject": letter.subject,
                "Tag": letter.extra["Tag"],
                "TextBody": letter.body("text/plain"),
                "HtmlBody": letter.body("text/html"),
                "ReceivedAt": iso(found[0].accepted_at, 7),
                "Status": "Sent",
                "TrackOpens": letter.open_tracking,
                "TrackLinks": "None",
                "Metadata": letter.metadata,
                "Sandboxed": False,
                "Attachments": [],
                "MessageEvents": [events.history(event) for message in found for event in message.so_far(time.time())],
            }
        )

    async def bounces(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        try:
            count, offset = int(request.query_params["count"]), int(request.query_params["offset"])
        except (KeyError, ValueError):
            return _error(422, 300, "'count' and 'offset' are needed, numbers.")
        if not (0 < count <= 500 and offset >= 0 and count + offset <= 10_000):
            return _error(422, 300, "'count' is 1 to 500, and count and offset at most 10,000 together.")
        asked = request.query_params.get("messageID")
        found = [
            {name: value for name, value in event.body.items() if name not in {"RecordType", "Metadata"}}
            for message in reversed(self._office.messages)
            if message.vendor == self.name and asked in {None, message.id}
            for event in message.so_far(time.time())
            if event.body["RecordType"] in _BOUNCED
        ]
        return JSONResponse({"TotalCount": len(found), "Bounces": found[offset : offset + count]})

    async def webhooks(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        if request.method == "GET":
            return JSONResponse({"Webhooks": [webhook.as_json() for webhook in self._webhooks.values()]})
        try:
            webhook = StreamWebhook(len(self._webhooks) + 1, json_object(await request.body()))
        except (ValueError, SettingsRefused) as problem:
            return _error(422, 300, str(problem))
        self._webhooks[webhook.id] = webhook
        self._office.add_webhook(self._account, webhook)
        return JSONResponse(webhook.as_json())

    async def webhook(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        webhook = self._webhooks.get(request.path_params["id"])
        if webhook is None:
            return _error(422, 1300, "This webhook does not exist.")
        if request.method == "PUT":
            try:
                webhook.update(json_object(await request.body()))
            except (ValueError, SettingsRefused) as problem:
                return _error(422, 300, str(problem))
        return JSONResponse(webhook.as_json())


def _refused(request: Request) -> Response | None:
    """overview, "Authentication"."""
    token = request.headers.get(_TOKEN_HEADER)
    if token is None:
        return _error(401, 10, "No Account or Server API tokens were supplied in the HTTP headers.")
    if not is_same(token, TOKEN):
        return _error(401, 10, "The Server Token in the X-Postmark-Server-Token request header was invalid.")
    if "application/json" not in request.headers.get("accept", ""):
        return _error(415, 406, "Set the Accept header to application/json.")
    return None


def _error(status: int, code: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"ErrorCode": code, "Message": message}, status, headers)
