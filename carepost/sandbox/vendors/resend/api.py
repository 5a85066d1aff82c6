"""Resend: `/emails`, `/domains`, `/webhooks`. Source: Resend, docs/api-reference, a page each, and errors."""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from carepost.sandbox.faults import Faults
from carepost.sandbox.post_office import Account, PostOffice
from carepost.sandbox.vendors.base import Counter, RouteWhen, TooLarge, bearer, is_json, is_same, json_object, read_body
from carepost.sandbox.vendors.resend import events, submission
from carepost.sandbox.vendors.resend.submission import SubmissionRefused
from carepost.sandbox.vendors.resend.webhook import Endpoint, SettingsRefused

API_KEY: Final = "re_sandbox_0000000000000000"
_MAX_BODY = 40 * 1024 * 1024  # send-email: an email with its attachments, after Base64
_KEY_LIFETIME = 24 * 3600.0
_DOMAIN_ID = "d91cd9bd-1176-453e-8fc1-35364d380206"

# errors: status of each name.
_STATUSES: Mapping[str, int] = {
    "invalid_idempotency_key": 400,
    "missing_api_key": 401,
    "invalid_api_key": 403,
    "not_found": 404,
    "invalid_idempotent_request": 409,
    "concurrent_idempotent_requests": 409,
    "validation_error": 422,
    "missing_required_field": 422,
    "invalid_from_address": 422,
    "invalid_parameter": 422,
    "rate_limit_exceeded": 429,
    "application_error": 500,
}


@dataclass(slots=True)
class _Use:
    """One use of an idempotency key, until a point of `time.monotonic`; its answer's id once there is one."""

    until: float
    body: bytes
    message_id: str | None = None


class Resend:
    """One Resend team."""

    name: str = "resend"

    def __init__(self, office: PostOffice, faults: Faults) -> None:
        self._office = office
        self._counter = Counter(office, faults, self.name)
        self._account = Account(self.name, 0, events.tell)
        self._open_tracking = True
        self._uses: dict[str, _Use] = {}

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/emails", self.send, methods=["POST"]),
            Route("/emails/{id}", self.email),
            Route("/domains", self.domains),
            Route("/domains/{id}", self.domain, methods=["PATCH"]),
            # Postmark has the same path, and another header.
            RouteWhen("/webhooks", self.webhooks, ["POST"], lambda request: "authorization" in request.headers),
        ]

    async def send(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        if not is_json(request):
            return _error("validation_error", "Set the Content-Type header to application/json.")
        try:
            body = await read_body(request, _MAX_BODY)
        except TooLarge:
            return _error("validation_error", "The email is larger than 40 MB.", 413)
        key = request.headers.get("idempotency-key")
        if key is not None and not 1 <= len(key) <= 256:
            return _error("invalid_idempotency_key", "The key must be between 1-256 chars.")
        if key is not None and (again := self._answered_before(key, body)):
            return again
        if key is None:
            return await self._take(request, body)
        use = self._uses[key] = _Use(time.monotonic() + _KEY_LIFETIME, body)
        try:
            answer = await self._take(request, body, use)
        finally:
            if use.message_id is None:  # what was refused may be tried again under its key
                del self._uses[key]
        return answer

    async def _take(self, request: Request, body: bytes, use: "_Use | None" = None) -> Response:
        fault = await self._counter.fault()
        if fault and fault.send_status:
            name = "rate_limit_exceeded" if fault.send_status == 429 else "application_error"
            return _error(name, "A fault that was asked for.", fault.send_status, fault.headers)
        try:
            letters = submission.read(body)
        except SubmissionRefused as problem:
            return _error(problem.name, str(problem))
        message_id = str(uuid.uuid4())
        if use:
            use.message_id = message_id
        tracked = [replace(letter, open_tracking=self._open_tracking) for letter in letters]
        await self._counter.take(request, self._account, message_id, tracked, fault)
        return JSONResponse({"id": message_id})

    def _answered_before(self, key: str, body: bytes) -> Response | None:
        use = self._uses.get(key)
        if use is None or use.until < time.monotonic():
            return None
        if use.body != body:
            message = "Same idempotency key used with a different request payload."
            return _error("invalid_idempotent_request", message)
        if use.message_id is None:
            message = "Same idempotency key used while original request is still in progress."
            return _error("concurrent_idempotent_requests", message)
        return JSONResponse({"id": use.message_id})

    async def email(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        try:
            message_id = str(uuid.UUID(request.path_params["id"]))
        except ValueError:
            return _error("invalid_parameter", "The `id` must be a valid UUID.")
        found = self._office.find(self._account, message_id)
        if not found:
            return _error("not_found", "Email not found")
        letter = found[0].letter
        so_far = sorted((event for message in found for event in message.so_far(time.time())), key=lambda e: e.at)
        return JSONResponse(
            {
                "object": "email",
                "id": message_id,
                "to": letter.extra["to"],
                "from": letter.extra["from"],
                "created_at": events.moment(found[0].accepted_at),
                "subject": letter.subject,
                "html": letter.body("text/html") or None,
                "text": letter.body("text/plain") or None,
                "bcc": [],
                "cc": [],
                "reply_to": [],
                "last_event": events.last_event(so_far),
                "scheduled_at": None,
                "tags": [{"name": name, "value": value} for name, value in letter.metadata.items()],
            }
        )

    async def domains(self, request: Request) -> Response:
        domain = {"id": _DOMAIN_ID, "name": "sandbox.example", "status": "verified", "region": "eu-west-1"}
        return _refused(request) or JSONResponse({"object": "list", "has_more": False, "data": [domain]})

    async def domain(self, request: Request) -> Response:
        """Opens are tracked for a domain, or aren't."""
        if refusal := _refused(request):
            return refusal
        try:
            wish = json_object(await request.body())
        except ValueError as problem:
            return _error("validation_error", str(problem))
        tracking = wish.get("open_tracking", self._open_tracking)
        if request.path_params["id"] != _DOMAIN_ID:
            return _error("not_found", "Domain not found")
        if not isinstance(tracking, bool):
            return _error("validation_error", "The `open_tracking` field must be a `boolean`.")
        self._open_tracking = tracking
        return JSONResponse({"object": "domain", "id": _DOMAIN_ID})

    async def webhooks(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        try:
            endpoint = Endpoint(json_object(await request.body()))
        except (ValueError, SettingsRefused) as problem:
            return _error("validation_error", str(problem))
        self._office.add_webhook(self._account, endpoint)
        answer = {"object": "webhook", "id": endpoint.id, "signing_secret": endpoint.signing_secret}
        return JSONResponse(answer, 201)


def _refused(request: Request) -> Response | None:
    """introduction, "Authentication"; a request without a User-Agent is turned away before anything else."""
    if not request.headers.get("user-agent"):
        return Response("error code: 1010", 403)
    if "authorization" not in request.headers:
        return _error("missing_api_key", "Missing API key in the authorization header.")
    return None if is_same(bearer(request), API_KEY) else _error("invalid_api_key", "API key is invalid")


def _error(name: str, message: str, status: int | None = None, headers: Mapping[str, str] | None = None) -> Response:
    status = status or _STATUSES[name]
    return JSONResponse({"statusCode": status, "name": name, "message": message}, status, headers)
