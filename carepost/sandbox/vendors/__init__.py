"""The vendors that the sandbox plays, by the names that Carepost has for them."""

from collections.abc import Callable, Mapping
from typing import Final

from carepost.sandbox.faults import Faults
from carepost.sandbox.post_office import PostOffice
from carepost.sandbox.vendors.base import Vendor
from carepost.sandbox.vendors.sendgrid.api import SendGrid

VENDORS: Final[Mapping[str, Callable[[PostOffice, Faults], Vendor]]] = {vendor.name: vendor for vendor in (SendGrid,)}
