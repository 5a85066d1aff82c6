"""Every error of the mail core.

x MailError
  + InvalidEmail            an address, subject or body that no mail server should be given
  + WebhookRejected         a webhook whose signature or password doesn't hold
  + CredentialsIncomplete   an account's credentials lack what its provider needs
"""


class MailError(Exception):
    """Base of what the mail core raises."""


class InvalidEmail(MailError):
    """Part of an email can't be sent as given.

    `field` names the input (`subject`, `to`, ...), `code` is stable for programs.
    """

    def __init__(self, field: str, code: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.code = code
        self.message = message


class WebhookRejected(MailError):
    """The webhook wasn't sent by who it says: answer 401 and keep nothing of it."""


class CredentialsIncomplete(MailError):
    """A required credential is missing or malformed; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
