"""Mailgun: `/v3/{domain}/...` and what may be asked. Source: Mailgun, API reference (Messages, Events, Logs, Domains,
Domain webhooks, Account management).
"""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, Final

from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from carepost.sandbox.faults import Faults
from carepost.sandbox.message import Body
from carepost.sandbox.post_office import Account, PostOffice
from carepost.sandbox.vendors.base import Counter, basic, is_same, json_object
from carepost.sandbox.vendors.mailgun import events, submission
from carepost.sandbox.vendors.mailgun.submission import DOMAIN, SubmissionRefused
from carepost.sandbox.vendors.mailgun.webhook import DomainWebhook, SettingsRefused

API_KEY: Final = "key-5a4d0000000000000000000000000000"
SIGNING_KEY: Final = "5a4d-http-webhook-signing-key-000000"
_MAX_BODY = 25 * 1024 * 1024  # "Send an email": the limit on a whole message
_FORMS = frozenset({"multipart/form-data", "application/x-www-form-urlencoded"})


class Mailgun:
    """One Mailgun account with one domain."""

    name: str = "mailgun"

    def __init__(self, office: PostOffice, faults: Faults) -> None:
        self._office = office
        self._counter = Counter(office, faults, self.name)
        self._account = Account(self.name, 0, events.tell)
        self._webhooks: list[DomainWebhook] = []

    def routes(self) -> Sequence[BaseRoute]:
        return [
            Route("/v3/{domain}/messages", self.send, methods=["POST"]),
            Route("/v3/{domain}/events", self.events),
            Route("/v1/analytics/logs", self.logs, methods=["POST"]),
            Route("/v3/domains/{domain}", self.domain),
            Route("/v4/domains/{domain}", self.domain),
            Route("/v4/domains", self.domain),
            Route("/v3/domains/{domain}/webhooks", self.webhooks, methods=["GET", "POST"]),
            Route("/v5/accounts/http_signing_key", self.signing_key),
        ]

    async def send(self, request: Request) -> Response:
        if refusal := _refused(request):
            return refusal
        if int(request.headers.get("content-length", 0)) > _MAX_BODY:
            return _message(413, "Request Entity Too Large")
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _FORMS:
            return _message(400, "from parameter is missing")
        form = await request.form()
        fault = await self._counter.fault()
        if fault and fault.send_status:
            return _message(fault.send_status, "A fault that was asked for", fault.headers)
        try:
            letters = submission.read(form)
        except SubmissionRefused as problem:
            return _message(400, str(problem))
        message_id = letters[0].extra["message_id"]
        if not letters[0].extra["test"]:
            # Events name it without the angle brackets.
            await self._counter.take(request, self._account, message_id.strip("<>"), letters, fault)
        return JSONResponse({"id": message_id, "message": "Queued. Thank you."})

    async def events(self, request: Request) -> Response:
        """The Events API: newest first, unless `ascending`; deprecated, and still there."""
        if refusal := _refused(request):
            return refusal
        asked = request.query_params
        try:
            begin, end = _moment(asked.get("begin"), 0.0), _moment(asked.get("end"), time.time())
            limit = int(asked.get("limit", "100"))
        except ValueError:
            return _message(400, "begin and end are epoch seconds or RFC 2822 dates, limit a number")
        wanted = {name: asked[name].strip("<>") for name in ("message-id", "recipient", "event") if name in asked}
        found = [
            body
            for body in self._so_far(ascending=asked.get("ascending") == "yes")
            if begin <= body["timestamp"] <= end
            and wanted.items() <= {**_attributes(body), "message-id": _attributes(body)["message_id"]}.items()
        ]
        page = f"{request.url.scheme}://{request.url.netloc}{request.url.path}/W10="
        return JSONResponse(
            {"items": found[:limit], "paging": dict.fromkeys(("next", "previous", "first", "last"), page)}
        )

    async def logs(self, request: Request) -> Response:
        """The Logs API: filters by attributes, all of which have to hold."""
        if refusal := _refused(request, account_wide=True):
            return refusal
        try:
            asked = json_object(await request.body())
            begin = _moment(asked.get("start"), time.time() - 24 * 3600)
            end = _moment(asked.get("end"), time.time())
            wanted = _wanted(asked.get("filter", {}))
            pagination = asked.get("pagination", {})
            limit, skip = int(pagination.get("limit", 50)), int(pagination.get("token") or 0)
        except (ValueError, AttributeError, KeyError, TypeError):
            return _message(400, "the request could not be read: start and end are RFC 2822 dates")
        found = [
            events.logged(body)
            for body in self._so_far(ascending=str(pagination.get("sort", "")).endswith(":asc"))
            if begin <= body["timestamp"] <= end
            and asked.get("events", [body["event"]]).count(body["event"])
            and all(_attributes(body).get(name) in values for name, values in wanted.items())
        ]
        page = found[skip : skip + limit]
        more = {"next": str(skip + limit)} if skip + limit < len(found) else {}
        paging = {"first": "0", "last": "0", "previous": "", "next": "", "total": len(found), **more}
        moments = {"start": _rfc2822(begin), "end": _rfc2822(end)}
        return JSONResponse({**moments, "items": page, "pagination": paging, "aggregates": {}})

    def _so_far(self, *, ascending: bool) -> Sequence[Body]:
        bodies = [
            event.body
            for message in self._office.messages
            if message.vendor == self.name
            for event in message.so_far(time.time())
        ]
        return sorted(bodies, key=lambda body: float(body["timestamp"]), reverse=not ascending)

    async def domain(self, request: Request) -> Response:
        domain = {"id": "5a4d5a4d5a4d5a4d5a4d5a4d", "name": DOMAIN, "state": "active", "type": "custom"}
        if refusal := _refused(request, account_wide="domain" not in request.path_params):
            return refusal
        one = "domain" in request.path_params
        return JSONResponse({"domain": domain} if one else {"items": [domain], "total_count": 1})

    async def webhooks(self, request: Request) -> Response:
        """Form: `id` and `url`, once or several times."""
        if refusal := _refused(request):
            return refusal
        if request.method == "GET":
            urls = {name: {"urls": [webhook.url()]} for webhook in self._webhooks for name in webhook.names}
            return JSONResponse({"webhooks": urls})
        form: FormData = await request.form()
        ids, urls_given = form.getlist("id"), [str(url) for url in form.getlist("url")]
        try:
            for url in urls_given or [""]:
                webhook = DomainWebhook(url, [str(name) for name in ids], SIGNING_KEY)
                self._webhooks.append(webhook)
                self._office.add_webhook(self._account, webhook)
        except SettingsRefused as problem:
            return _message(400, str(problem))
        return JSONResponse({"message": "Webhook has been created", "webhook": {"urls": urls_given}})

    async def signing_key(self, request: Request) -> Response:
        answer = {"message": "success", "http_signing_key": SIGNING_KEY}
        return _refused(request, account_wide=True) or JSONResponse(answer)


def _refused(request: Request, *, account_wide: bool = False) -> Response | None:
    """ "Authentication": the user is `api`. A wrong key gets a bare word."""
    user, key = basic(request)
    if user != "api" or not is_same(key, API_KEY):
        return PlainTextResponse("Forbidden", 401, {"WWW-Authenticate": 'Basic realm="MG API"'})
    domain = request.path_params.get("domain", "")
    return None if account_wide or domain == DOMAIN else _message(404, f"Domain not found: {domain}")


def _attributes(body: Body) -> Mapping[str, str]:
    """What the Logs API can filter by (of it, what the sandbox knows)."""
    headers = body["message"]["headers"]
    return {
        "message_id": headers["message-id"],
        "domain": DOMAIN,
        "recipient": body["recipient"],
        "event": body["event"],
        "subject": headers["subject"],
    }


def _wanted(given: Mapping[str, Any]) -> Mapping[str, frozenset[str]]:
    wanted = {}
    for condition in given.get("AND", []):
        if condition["comparator"] != "=":
            raise ValueError("the sandbox knows no comparator but =")
        wanted[condition["attribute"]] = frozenset(each["value"] for each in condition["values"])
    return wanted


def _moment(text: object, default: float) -> float:
    if text is None:
        return default
    if isinstance(text, str) and text.replace(".", "", 1).isdigit():
        return float(text)
    return parsedate_to_datetime(str(text)).timestamp()


def _rfc2822(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))


def _message(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"message": message}, status, headers)
