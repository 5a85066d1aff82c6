"""Customer: what somebody does at each vendor to be heard of, as the vendor documents it, over HTTP.

First `join`: it makes what is needed there, enters the webhook's URL, and gives the credentials and the secret that
proves webhooks. Then, once the secret is kept, `listen`: SNS asks back at once, and only a kept topic is answered for.
"""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx2
import orjson

from carepost.sandbox.vendors.amazon_ses import sigv4
from carepost.sandbox.vendors.amazon_ses.events import TYPES
from carepost.sandbox.vendors.mailgun import api as mailgun
from carepost.sandbox.vendors.mailgun.submission import DOMAIN
from carepost.sandbox.vendors.mailgun.webhook import WEBHOOKS
from carepost.sandbox.vendors.postmark import api as postmark
from carepost.sandbox.vendors.postmark.webhook import TRIGGERS
from carepost.sandbox.vendors.resend import api as resend

SENDGRID_KEY: Final = "SG.sandbox"
REGION: Final = "us-east-1"
_TOPIC: Final = "email-events"
_SET: Final = "practice"
_RESEND_EVENTS: Final = ("sent", "delivered", "delivery_delayed", "bounced", "complained", "opened", "suppressed")


@dataclass(frozen=True, slots=True)
class Joined:
    """An account at a vendor: the credentials under the vendor's names, and what proves its webhooks."""

    credentials: Mapping[str, str]
    secret: str


async def join(client: httpx2.AsyncClient, vendor: str, hook: str, password: str = "") -> Joined:
    """Opens an account and enters the webhook's URL. `client` has the sandbox for its base URL; `password`
    (`user:password`) is for Postmark, which takes ours."""
    base_url = str(client.base_url).rstrip("/")
    joined = await _JOIN[vendor](client, hook, password)
    return Joined({**joined.credentials, "base_url": base_url}, joined.secret)


async def listen(client: httpx2.AsyncClient, vendor: str, hook: str) -> None:
    """Subscribes, where the vendor wants that to be confirmed; nothing at the others."""
    if vendor == "amazon_ses":
        topic = f"arn:aws:sns:{REGION}:123456789012:{_TOPIC}"
        await _sns(client, Action="Subscribe", TopicArn=topic, Protocol=urlsplit(hook).scheme, Endpoint=hook)


async def _sendgrid(client: httpx2.AsyncClient, hook: str, _: str) -> Joined:
    headers = {"authorization": f"Bearer {SENDGRID_KEY}"}
    settings = "/v3/user/webhooks/event/settings"
    wish = {"url": hook, "enabled": True}
    (await client.patch(settings, json=wish, headers=headers)).raise_for_status()
    signed = await client.patch(f"{settings}/signed", json={"enabled": True}, headers=headers)
    return Joined({"api_key": SENDGRID_KEY}, signed.raise_for_status().json()["public_key"])


async def _postmark(client: httpx2.AsyncClient, hook: str, password: str) -> Joined:
    user, _, word = password.partition(":")
    wish = {
        "Url": hook,
        "MessageStream": "outbound",
        "HttpAuth": {"Username": user, "Password": word},
        "Triggers": {trigger: {"Enabled": True} for trigger in TRIGGERS.values()},
    }
    headers = {"x-postmark-server-token": postmark.TOKEN, "accept": "application/json"}
    (await client.post("/webhooks", json=wish, headers=headers)).raise_for_status()
    return Joined({"server_token": postmark.TOKEN}, password)


async def _mailgun(client: httpx2.AsyncClient, hook: str, _: str) -> Joined:
    auth = httpx2.BasicAuth("api", mailgun.API_KEY)
    form = {"id": list(WEBHOOKS), "url": hook}
    (await client.post(f"/v3/domains/{DOMAIN}/webhooks", data=form, auth=auth)).raise_for_status()
    key = (await client.get("/v5/accounts/http_signing_key", auth=auth)).raise_for_status()
    return Joined({"api_key": mailgun.API_KEY, "domain": DOMAIN}, key.json()["http_signing_key"])


async def _resend(client: httpx2.AsyncClient, hook: str, _: str) -> Joined:
    wish = {"endpoint": hook, "events": [f"email.{name}" for name in _RESEND_EVENTS]}
    made = await client.post("/webhooks", json=wish, headers={"authorization": f"Bearer {resend.API_KEY}"})
    return Joined({"api_key": resend.API_KEY}, made.raise_for_status().json()["signing_secret"])


async def _amazon_ses(client: httpx2.AsyncClient, _: str, __: str) -> Joined:
    attributes = {"Attributes.entry.1.key": "SignatureVersion", "Attributes.entry.1.value": "2"}
    made = await _sns(client, Action="CreateTopic", Name=_TOPIC, **attributes)
    found = re.search(r"<TopicArn>([^<]+)</TopicArn>", made)
    assert found
    sets = "/v2/email/configuration-sets"
    await _ses(client, sets, {"ConfigurationSetName": _SET})
    destination = {
        "EventDestinationName": "carepost",
        "EventDestination": {
            "Enabled": True,
            "MatchingEventTypes": list(TYPES.values()),
            "SnsDestination": {"TopicArn": found[1]},
        },
    }
    await _ses(client, f"{sets}/{_SET}/event-destinations", destination)
    credentials = {
        "access_key_id": sigv4.ACCESS_KEY_ID,
        "secret_access_key": sigv4.SECRET_ACCESS_KEY,
        "region": REGION,
        "configuration_set": _SET,
    }
    return Joined(credentials, found[1])


_JOIN: Mapping[str, Callable[[httpx2.AsyncClient, str, str], Awaitable[Joined]]] = {
    "amazon_ses": _amazon_ses,
    "mailgun": _mailgun,
    "postmark": _postmark,
    "resend": _resend,
    "sendgrid": _sendgrid,
}


async def _ses(client: httpx2.AsyncClient, path: str, wish: Mapping[str, Any]) -> None:
    await _signed(client, "ses", path, orjson.dumps(wish), "application/json")


async def _sns(client: httpx2.AsyncClient, **fields: str) -> str:
    return await _signed(client, "sns", "/", urlencode(fields).encode(), "application/x-www-form-urlencoded")


async def _signed(client: httpx2.AsyncClient, service: str, path: str, body: bytes, content_type: str) -> str:
    """The text of the answer to a signed POST."""
    headers = {"host": urlsplit(str(client.base_url)).netloc, "content-type": content_type}
    request = sigv4.Signed("POST", path, "", headers, body)
    headers |= sigv4.authorization(request, REGION, service)
    return (await client.post(path, content=body, headers=headers)).raise_for_status().text
