"""The adapters of the ESPs, by the name that stands in their webhook URLs. One row per ESP."""

from collections.abc import Mapping
from types import MappingProxyType

from mail.errors import MailError
from mail.providers.amazon_ses import AmazonSes
from mail.providers.base import Provider
from mail.providers.brevo import Brevo
from mail.providers.mailersend import MailerSend
from mail.providers.mailgun import Mailgun
from mail.providers.mailjet import Mailjet
from mail.providers.mailtrap import Mailtrap
from mail.providers.mandrill import Mandrill
from mail.providers.postal import Postal
from mail.providers.postmark import Postmark
from mail.providers.resend import Resend
from mail.providers.scaleway import Scaleway
from mail.providers.sendgrid import SendGrid
from mail.providers.sparkpost import SparkPost
from mail.providers.unisender_go import UnisenderGo

_ALL: tuple[Provider, ...] = (
    AmazonSes(),
    Brevo(),
    MailerSend(),
    Mailgun(),
    Mailjet(),
    Mailtrap(),
    Mandrill(),
    Postal(),
    Postmark(),
    Resend(),
    Scaleway(),
    SendGrid(),
    SparkPost(),
    UnisenderGo(),
)

PROVIDERS: Mapping[str, Provider] = MappingProxyType({each.name: each for each in _ALL})


class UnknownProvider(MailError, LookupError):
    """No adapter has this name."""


def provider(name: str) -> Provider:
    """The adapter of one ESP; raises `UnknownProvider`."""
    try:
        return PROVIDERS[name]
    except KeyError:
        raise UnknownProvider(f"no such email service provider; there are {', '.join(PROVIDERS)}") from None
