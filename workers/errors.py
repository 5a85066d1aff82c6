"""Every error of the transports.

x TransportError
  + TransportRefused       nothing was handed over, and trying again would change nothing
  + TransportUnavailable   nothing was handed over; try again
  + TransportAmbiguous     the connection ended between the handover and the answer
"""

from mail.failure import Failure


class TransportError(Exception):
    """Base of what the transports raise; `failure` says what happened, for the message's evidence."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.kind.value)
        self.failure = failure


class TransportRefused(TransportError):
    """The connection is one that we don't make: to an address that is not allowed."""


class TransportUnavailable(TransportError):
    """No connection, or it broke before the email was handed over: it was surely not sent."""


class TransportAmbiguous(TransportError):
    """The email was handed over and no answer came: it may have been sent."""
