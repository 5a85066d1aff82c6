"""Sign-in: a JWT (RFC 7519) names the practice, the person and the role."""

import time
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import jwt

from api.config import SignIn
from api.jwks import KeySet, KeysUnavailable, KeyUnknown
from api.roles import Role
from mail.ids import PracticeId


class Unauthenticated(Exception):
    """No token, or one that doesn't hold; the text is fit to be shown."""


class SignInUnavailable(Exception):
    """The identity provider's keys are out of reach, so nothing is known of the token; the text is fit to be shown."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks. `expires_at` is the end of the token, in seconds since 1970, `issued_at` its beginning (`iat`) and
    `token_id` its name (`jti`), where it tells."""

    subject: str
    practice_id: PracticeId
    role: Role
    expires_at: float
    issued_at: float | None = None
    token_id: str | None = None


# One family of algorithms for each kind of key, so that neither can be taken for the other (RFC 8725 section 2.1).
_SECRET_ALGORITHMS: Final = ["HS256"]
_KEY_ALGORITHMS: Final = ["RS256", "ES256", "EdDSA"]
_LEEWAY: Final = 5
_LONGEST: Final = 16 << 10
"""Characters of a token; those of identity providers with all their groups have a few thousand."""


_REMEMBERED: Final = 10_000
_REMEMBER_SECONDS: Final = 60.0


class Authenticator:
    """Verifies tokens, by the secret or by the keys of the identity provider (see api.jwks).

    A token that holds is remembered, by its text, for a minute and never beyond its `exp`: so a key that its provider
    withdraws signs nobody in after six minutes at most.
    """

    def __init__(self, sign_in: SignIn) -> None:
        self._sign_in = sign_in
        self._keys = KeySet(sign_in.jwks_url) if sign_in.jwks_url else None
        self._remembered: dict[str, tuple[Principal, float]] = {}

    def remembered(self, authorization: str | None) -> Principal | None:
        """The principal of an `Authorization` header's value that was verified a moment ago."""
        known = self._remembered.get(authorization) if authorization else None
        if known is not None and time.time() < known[0].expires_at and time.monotonic() < known[1]:
            return known[0]
        return None

    async def authenticate(self, authorization: str | None) -> Principal:
        """The principal of an `Authorization` header's value; raises `Unauthenticated` and
        `SignInUnavailable`."""
        if (known := self.remembered(authorization)) is not None:
            return known
        principal = await self._verified(authorization)
        if len(self._remembered) >= _REMEMBERED:
            self._remembered.clear()
        assert authorization is not None
        self._remembered[authorization] = (principal, time.monotonic() + _REMEMBER_SECONDS)
        return principal

    async def _verified(self, authorization: str | None) -> Principal:
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("Sign in: send `Authorization: Bearer <token>`.")
        try:
            return _principal(await self._claims(token.strip()))
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The token has expired; sign in again.") from error
        except KeysUnavailable as error:
            raise SignInUnavailable("Tokens can't be verified at the moment; try again.") from error
        # A signed token may say anything, and an unsigned one nest its header without end.
        except (jwt.PyJWTError, KeyUnknown, ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise Unauthenticated("The token is not valid.") from error

    async def _claims(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST:
            raise ValueError("longer than any token")
        key: Any
        if self._keys is not None:
            key, algorithms = (await self._keys.find(jwt.get_unverified_header(token).get("kid"))).key, _KEY_ALGORITHMS
        elif self._sign_in.secret:
            key, algorithms = self._sign_in.secret, _SECRET_ALGORITHMS
        else:
            raise ValueError("no key to verify with")
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=algorithms,
            issuer=self._sign_in.issuer,
            audience=self._sign_in.audience,
            leeway=_LEEWAY,
            options={"require": ["exp", "sub"], "verify_aud": self._sign_in.audience is not None},
        )
        return claims


def _principal(claims: dict[str, Any]) -> Principal:
    if not isinstance(claims["practice_id"], str):
        raise TypeError("practice_id is no string")
    subject = str(claims["sub"])[:200]
    if not subject.isprintable():
        raise ValueError("the audit trail can't hold such a name")
    return Principal(
        subject=subject,
        practice_id=PracticeId(UUID(claims["practice_id"])),
        role=Role(claims["role"]),
        expires_at=float(claims["exp"]),
        issued_at=float(claims["iat"]) if "iat" in claims else None,
        token_id=claims.get("jti"),  # a string: PyJWT refuses any other
    )
