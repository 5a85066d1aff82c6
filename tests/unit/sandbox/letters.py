"""An email, sent through each vendor as its documentation has it: by hand, and by no code of Carepost's own."""

import base64
from typing import Any
from urllib.parse import urlsplit

import httpx2
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from carepost.sandbox.vendors.amazon_ses import sigv4
from carepost.sandbox.vendors.mailgun import api as mailgun
from carepost.sandbox.vendors.postmark import api as postmark
from carepost.sandbox.vendors.resend import api as resend

PASSWORD = "practice:a password in the URL".replace(" ", "-")
POSTMARK = {"x-postmark-server-token": postmark.TOKEN, "accept": "application/json"}
RESEND = {"authorization": f"Bearer {resend.API_KEY}"}
MAILGUN = httpx2.BasicAuth("api", mailgun.API_KEY)
RAW = (
    "From: Desk <desk@practice.example>\r\nTo: <{to}>\r\nSubject: Your appointment\r\n"
    "Message-ID: <1@practice.example>\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nTuesday\r\n"
)


def postmark_email(to: str, **more: object) -> dict[str, Any]:
    return {
        "From": '"Desk, front" <desk@practice.example>',
        "To": to,
        "Subject": "Your appointment",
        "TextBody": "Tuesday",
        "Metadata": {"carepost_id": "m-1"},
        "TrackOpens": True,
        "MessageStream": "outbound",
        **more,
    }


def resend_email(to: str, **more: object) -> dict[str, Any]:
    return {
        "from": "Desk <desk@practice.example>",
        "to": [to],
        "subject": "Your appointment",
        "text": "Tuesday",
        "tags": [{"name": "carepost_id", "value": "m-1"}],
        **more,
    }


def mailgun_email(to: str, **more: str) -> dict[str, str]:
    return {
        "from": "Desk <desk@practice.example>",
        "to": to,
        "subject": "Your appointment",
        "text": "Tuesday",
        "v:carepost_id": "m-1",
        **more,
    }


def ses_email(to: str, **more: object) -> dict[str, Any]:
    return {
        "Destination": {"ToAddresses": [to]},
        "Content": {"Raw": {"Data": base64.b64encode(RAW.format(to=to).encode()).decode()}},
        "ConfigurationSetName": "practice",
        "EmailTags": [{"Name": "carepost_id", "Value": "m-1"}],
        **more,
    }


async def signed(
    client: httpx2.AsyncClient,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    secret: str = sigv4.SECRET_ACCESS_KEY,
    key_id: str = sigv4.ACCESS_KEY_ID,
    service: str = "ses",
    alter: Any = None,
) -> httpx2.Response:
    """A request that AWS's own signer signed; `alter` changes its headers afterwards."""
    request = AWSRequest(method, f"{str(client.base_url).rstrip('/')}{path}", data=body)
    request.headers["Content-Type"] = "application/json"
    request.headers["Host"] = urlsplit(str(client.base_url)).netloc
    SigV4Auth(Credentials(key_id, secret), service, "us-east-1").add_auth(request)
    headers = dict(request.headers.items())
    if alter:
        alter(headers)
    return await client.request(method, path, content=body, headers=headers)


async def send(sandbox: Any, vendor: str, to: str, *, tracked: bool = True) -> httpx2.Response:
    """An email with the metadata `carepost_id: m-1`."""
    import json

    client: httpx2.AsyncClient = sandbox.client
    match vendor:
        case "postmark":
            return await client.post("/email", json=postmark_email(to, TrackOpens=tracked), headers=POSTMARK)
        case "mailgun":
            form = mailgun_email(to, **{"o:tracking-opens": "yes" if tracked else "no"})
            return await client.post("/v3/mg.sandbox.example/messages", data=form, auth=MAILGUN)
        case "resend":
            return await client.post("/emails", json=resend_email(to), headers=RESEND)
        case "amazon_ses":
            switch = "ENABLED" if tracked else "DISABLED"
            email = ses_email(to, ConfigurationOverrides={"Tracking": {"OpenTrackingEnabled": switch}})
            return await signed(client, "POST", "/v2/email/outbound-emails", json.dumps(email).encode())
        case _:
            return await sandbox.send(to, tracking_settings={"open_tracking": {"enable": tracked}})
