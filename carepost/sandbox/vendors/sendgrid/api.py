"""SendGrid: `/v3/...`. Sources: Twilio SendGrid, "Mail Send", "Errors", "Webhooks", "API Key Permissions"."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from carepost.sandbox.faults import Faults
from carepost.sandbox.post_office import Account, PostOffice
from carepost.sandbox.vendors.base import Counter, TooLarge, bearer, is_json, json_object, read_body
from carepost.sandbox.vendors.sendgrid import events, submission
from carepost.sandbox.vendors.sendgrid.signing import load_keys
from carepost.sandbox.vendors.sendgrid.submission import Complaint, SubmissionRefused
from carepost.sandbox.vendors.sendgrid.webhook import EventWebhook, SettingsRefused

_MAX_BODY = 30 * 1024 * 1024  # "Mail Send": the limit on a whole message
_SCOPES = ["mail.send", "user.webhooks.event.settings.read", "user.webhooks.event.settings.update"]


@dataclass(frozen=True, slots=True)
class _Key:
    """An API key: an account with a webhook of its own."""

    account: Account
    webhook: EventWebhook


class SendGrid:
    """SendGrid's endpoints."""

    name: str = "sendgrid"

    def __init__(self, office: PostOffice, faults: Faults) -> None:
        self._counter = Counter(office, faults, self.name)
        self._keys: dict[str, _Key] = {}
        options = office.options
        for number, (api_key, signing_key) in enumerate(load_keys(options.key_file, options.api_keys).items()):
            webhook = EventWebhook(signing_key)
            if number < len(options.webhook_urls):
                webhook.update({"url": options.webhook_urls[number], "enabled": True})
                webhook.signed = True
            account = Account(self.name, number, events.tell)
            office.add_webhook(account, webhook)
            self._keys[api_key] = _Key(account, webhook)

    def routes(self) -> Sequence[BaseRoute]:
        settings, methods = "/v3/user/webhooks/event/settings", ["GET", "PATCH"]
        return [
            Route("/v3/mail/send", self.send, methods=["POST"]),
            Route("/v3/scopes", self.scopes),
            Route(f"{settings}/signed", self.signing, methods=methods),
            Route(f"{settings}/signed/{{id}}", self.signing, methods=methods),
            Route(settings, self.settings, methods=methods),
            Route(f"{settings}/{{id}}", self.settings, methods=methods),
        ]

    async def send(self, request: Request) -> Response:
        key = self._keys.get(bearer(request))
        if key is None:
            return _unauthorized()
        if not is_json(request):
            return _errors(415, Complaint("Content-Type must be application/json"))
        try:
            body = await read_body(request, _MAX_BODY)
        except TooLarge:
            return _errors(413, Complaint("the body is larger than 30 MB"))
        fault = await self._counter.fault()
        if fault and fault.send_status:
            return _errors(fault.send_status, Complaint("a fault that was asked for"), headers=fault.headers)
        try:
            asked = submission.read(body)
        except SubmissionRefused as refusal:
            return _errors(400, *refusal.complaints)
        if asked.dry_run:
            return Response(status_code=200)
        message_id = events.new_id()
        await self._counter.take(request, key.account, message_id, asked.letters, fault)
        return Response(status_code=202, headers={"X-Message-Id": message_id})

    async def scopes(self, request: Request) -> Response:
        return JSONResponse({"scopes": _SCOPES}) if bearer(request) in self._keys else _unauthorized()

    async def settings(self, request: Request) -> Response:
        return await self._on_webhook(request, signing=False)

    async def signing(self, request: Request) -> Response:
        return await self._on_webhook(request, signing=True)

    async def _on_webhook(self, request: Request, *, signing: bool) -> Response:
        key = self._keys.get(bearer(request))
        if key is None:
            return _unauthorized()
        webhook = key.webhook
        # Without an id SendGrid means the oldest webhook; here a key has one.
        if request.path_params.get("id", webhook.id) != webhook.id:
            return _errors(404, Complaint("no such webhook", "id"))
        if request.method == "PATCH":
            try:
                wish = json_object(await request.body())
                if not signing:
                    webhook.update(wish)
                elif isinstance(enabled := wish.get("enabled"), bool):
                    webhook.signed = enabled
                else:
                    raise SettingsRefused("enabled must be true or false")
            except (json.JSONDecodeError, ValueError, SettingsRefused) as problem:
                return _errors(400, Complaint(str(problem)))
        shown = {"id": webhook.id, "public_key": webhook.public_key} if signing else webhook.as_json()
        return JSONResponse(shown)


def _errors(status: int, *complaints: Complaint, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"errors": [complaint.as_json() for complaint in complaints]}, status, headers)


def _unauthorized() -> Response:
    return _errors(401, Complaint("the API key is missing or unknown"))
