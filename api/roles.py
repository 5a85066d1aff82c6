"""What the bearer of a token may do."""

from enum import Enum


class Role(Enum):
    """What a person may do."""

    STAFF = "STAFF"
    """Reads and sends."""
    ADMIN = "ADMIN"
    """Does what STAFF does, and sets up sending accounts."""
    AUDITOR = "AUDITOR"
    """Reads, and changes nothing."""
