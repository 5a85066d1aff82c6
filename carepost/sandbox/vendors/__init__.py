"""The vendors that the sandbox plays, by the names that Carepost has for them."""

from collections.abc import Callable, Mapping
from typing import Final

from carepost.sandbox.faults import Faults
from carepost.sandbox.post_office import PostOffice
from carepost.sandbox.vendors.amazon_ses.api import AmazonSes
from carepost.sandbox.vendors.base import Vendor
from carepost.sandbox.vendors.mailgun.api import Mailgun
from carepost.sandbox.vendors.postmark.api import Postmark
from carepost.sandbox.vendors.resend.api import Resend
from carepost.sandbox.vendors.sendgrid.api import SendGrid

VENDORS: Final[Mapping[str, Callable[[PostOffice, Faults], Vendor]]] = {
    "amazon_ses": AmazonSes,
    "mailgun": Mailgun,
    "postmark": Postmark,
    "resend": Resend,
    "sendgrid": SendGrid,
}
