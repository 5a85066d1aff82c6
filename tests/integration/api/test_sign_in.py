"""Sign-in and roles: who isn't who they say gets 401, and who may not gets FORBIDDEN."""

import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx2
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api.config import SignIn
from api.graphql.ids import global_id
from api.roles import Role
from db.practices import Practice
from tests.integration.api.sockets import hear, plain_socket, say, sign_in
from tests.support.practice import make_patient
from tests.support.stack import JWT_SECRET, Stack, serving_app, token_for

VIEWER = "{ viewer { subject role practice { name } } }"
ISSUER, AUDIENCE = "https://id.northgate.example", "carepost"


def claims(practice: Practice, **changes: Any) -> dict[str, Any]:
    """Claims that hold; None takes one away."""
    now = datetime.now(UTC)
    good = {
        "sub": "ada",
        "practice_id": str(practice.id),
        "role": "STAFF",
        "iat": now,
        "exp": now + timedelta(hours=1),
        "iss": ISSUER,
        "aud": AUDIENCE,
    }
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(practice: Practice, secret: Any = JWT_SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    return jwt.encode(claims(practice, **changes), secret, algorithm=algorithm)


def spliced(header: bytes, payload: bytes, signature: bytes = b"") -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (header, payload, signature))


async def ask(http: httpx2.AsyncClient, authorization: str | bytes | None, query: str = VIEWER) -> httpx2.Response:
    given = authorization.encode() if isinstance(authorization, str) else authorization
    headers = {} if given is None else {b"authorization": given}
    return await http.post("/graphql", json={"query": query}, headers=headers)


def verdict(response: httpx2.Response) -> tuple[int, str]:
    [error] = response.json()["errors"]
    return response.status_code, error["extensions"]["code"]


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


async def test_a_token_that_holds_signs_in(stack: Stack, practice: Practice) -> None:
    api = await stack.api(sign_in=SignIn(secret=JWT_SECRET, issuer=ISSUER, audience=AUDIENCE))
    async with httpx2.AsyncClient(base_url=api) as http:
        for scheme in ("Bearer", "bearer", "BEARER "):
            response = await ask(http, f"{scheme} {signed(practice)}")
            viewer = {"subject": "ada", "role": "STAFF", "practice": {"name": "Northgate Practice"}}
            assert response.json() == {"data": {"viewer": viewer}}


async def test_every_token_that_does_not_hold_is_answered_401(
    stack: Stack, practice: Practice, rsa_key: rsa.RSAPrivateKey
) -> None:
    now = datetime.now(UTC)
    payload = json.dumps(claims(practice, iat=None, exp=int(now.timestamp()) + 600)).encode()
    good = signed(practice)
    nested = b'{"alg": "HS256", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    headers: dict[str, str | bytes | None] = {
        "none at all": None,
        "empty": "",
        "only a scheme": "Bearer",
        "another scheme": f"Basic {good}",
        "without a scheme": good,
        "bytes beyond ASCII": b"Bearer \xff\xfe",
    }
    forged = jwt.encode(
        claims(practice), "a secret of the attacker, long enough to be taken", headers={"jku": "http://127.0.0.1:1/"}
    )
    head, _, signature = good.split(".")
    tokens = {
        "junk": "junk",
        "junk with dots": "a.b.c",
        "no algorithm": jwt.encode(claims(practice), "", algorithm="none"),
        "no algorithm, spelled otherwise": spliced(b'{"alg": "nOnE", "typ": "JWT"}', payload),
        "another secret": signed(practice, "another secret, which is long enough too, as it should be"),
        "another family": signed(practice, rsa_key, "RS256"),
        "a longer hash": signed(practice, JWT_SECRET * 2, "HS512"),
        "a tampered payload": f"{head}.{spliced(b'', payload).split('.')[1]}.{signature}",
        "a header without end": spliced(nested, payload, b"x"),
        "a header with a number of 5,000 digits": spliced(b'{"alg": ' + b"9" * 5000 + b"}", payload),
        "a header that names its own key": forged,
        "of 20,000 characters": signed(practice, groups=["a group of many"] * 1000),
        "a header that has the key fetched": jwt.encode(
            claims(practice),
            "a secret of the attacker, long enough to be taken",
            headers={"x5u": "http://127.0.0.1:1/"},
        ),
        "a kid that is a path": spliced(b'{"alg": "HS256", "kid": "/dev/null"}', payload),
        "a header that must be understood": jwt.encode(
            claims(practice), JWT_SECRET, headers={"crit": ["of-the-attacker"], "of-the-attacker": True}
        ),
        "issued in the future": signed(practice, iat=now + timedelta(hours=1)),
        "a name that is a number": signed(practice, jti=7),
        "a payload of 5,000 digits": f"{head}.{spliced(b'', b'9' * 5000).split('.')[1]}.{signature}",
        "expired": signed(practice, exp=now - timedelta(minutes=1)),
        "without an end": signed(practice, exp=None),
        "an end beyond all numbers": signed(practice, exp=10**400),
        "an end that is a word": signed(practice, exp="tomorrow"),
        "not yet": signed(practice, nbf=now + timedelta(hours=1)),
        "another audience": signed(practice, aud="billing"),
        "no audience": signed(practice, aud=None),
        "another issuer": signed(practice, iss="https://id.elsewhere.example"),
        "no issuer": signed(practice, iss=None),
        "nobody": signed(practice, sub=None),
        "somebody unprintable": signed(practice, sub="a\x00b"),
        "no practice": signed(practice, practice_id=None),
        "a practice that is none": signed(practice, practice_id="northgate"),
        "a practice that is a number": signed(practice, practice_id=7),
        "a practice that isn't there": signed(practice, practice_id=str(uuid4())),
        "a role that is none": signed(practice, role="OWNER"),
        "no role": signed(practice, role=None),
        "a role that is a list": signed(practice, role=["ADMIN"]),
    }
    headers |= {name: f"Bearer {token}" for name, token in tokens.items()}
    api = await stack.api(sign_in=SignIn(secret=JWT_SECRET, issuer=ISSUER, audience=AUDIENCE))
    async with httpx2.AsyncClient(base_url=api) as http:
        found = {}
        for name, header in headers.items():
            response = await ask(http, header)
            found[name] = verdict(response)
            assert response.headers["www-authenticate"] == "Bearer"
    assert found == dict.fromkeys(headers, (401, "UNAUTHENTICATED"))


class Keys:
    """An identity provider's JWKS; `status` None hangs up."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.status = 200
        self.asked = 0

    async def __call__(self, request: object) -> Response:
        self.asked += 1
        return JSONResponse({"keys": self.keys}, status_code=self.status)

    def is_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From now on, and whoever wants a key asks again at once."""
        self.status = 500
        monkeypatch.setattr("api.jwks._FRESH", 0.0)
        monkeypatch.setattr("api.jwks._PAUSE", 0.0)

    def add(self, kid: str, public: Any, algorithm: Any, **more: Any) -> None:
        self.keys.append({**json.loads(algorithm.to_jwk(public)), "kid": kid, "use": "sig", **more})


@pytest.fixture
async def keys() -> AsyncIterator[tuple[Keys, str]]:
    keys = Keys()
    async with serving_app(Starlette(routes=[Route("/jwks", keys.__call__)])) as url:
        yield keys, f"{url}/jwks"


async def test_tokens_of_an_identity_provider_are_verified_by_its_keys(
    stack: Stack, practice: Practice, keys: tuple[Keys, str], rsa_key: rsa.RSAPrivateKey
) -> None:
    provider, url = keys
    elliptic, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    provider.add("rsa", rsa_key.public_key(), RSAAlgorithm)
    provider.add("ec", elliptic.public_key(), ECAlgorithm)
    provider.add("ed", edwards.public_key(), OKPAlgorithm)
    public = rsa_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def token(key: Any, algorithm: str, kid: str | None) -> str:
        return "Bearer " + jwt.encode(claims(practice), key, algorithm, headers={} if kid is None else {"kid": kid})

    # PyJWT refuses to sign with a public key as a secret, so the forgery is made by hand.
    head = json.dumps({"alg": "HS256", "kid": "rsa"}).encode()
    body = json.dumps(claims(practice, iat=None, exp=int(datetime.now(UTC).timestamp()) + 600)).encode()
    unsigned = spliced(head, body).rpartition(".")[0]
    confused = f"{unsigned}.{base64.urlsafe_b64encode(hmac.digest(public, unsigned.encode(), hashlib.sha256)).decode()}"
    api = await stack.api(sign_in=SignIn(jwks_url=url, issuer=ISSUER, audience=AUDIENCE))
    async with httpx2.AsyncClient(base_url=api) as http:
        for good in (token(rsa_key, "RS256", "rsa"), token(elliptic, "ES256", "ec"), token(edwards, "EdDSA", "ed")):
            response = await ask(http, good)
            assert response.json()["data"]["viewer"]["subject"] == "ada"
        refused = {
            "unknown kid": token(rsa_key, "RS256", "elsewhere"),
            "no kid": token(rsa_key, "RS256", None),
            "another's kid": token(rsa_key, "RS256", "ec"),
            "another key": token(rsa.generate_private_key(65537, 2048), "RS256", "rsa"),
            "a secret": f"Bearer {signed(practice)}",
            "the public key as a secret": f"Bearer {confused}",
        }
        found = {name: verdict(await ask(http, bad)) for name, bad in refused.items()}
    assert found == dict.fromkeys(refused, (401, "UNAUTHENTICATED"))
    assert provider.asked <= 3


@pytest.mark.parametrize(
    ("outage", "answer"),
    [
        ("refused", (503, "SIGN_IN_UNAVAILABLE")),
        ("500", (503, "SIGN_IN_UNAVAILABLE")),
        ("no JSON", (503, "SIGN_IN_UNAVAILABLE")),
    ],
)
async def test_without_the_keys_of_the_provider_nobody_is_signed_in(
    stack: Stack, practice: Practice, rsa_key: rsa.RSAPrivateKey, outage: str, answer: tuple[int, str]
) -> None:
    async def broken(request: object) -> Response:
        return Response(b"oops", status_code=500 if outage == "500" else 200)

    async with serving_app(Starlette(routes=[Route("/jwks", broken)])) as url:
        at = "http://127.0.0.1:1/jwks" if outage == "refused" else f"{url}/jwks"
        api = await stack.api(sign_in=SignIn(jwks_url=at))
        async with httpx2.AsyncClient(base_url=api, timeout=15) as http:
            token = jwt.encode(claims(practice), rsa_key, "RS256", headers={"kid": "rsa"})
            assert verdict(await ask(http, f"Bearer {token}")) == answer


async def test_a_rotated_key_is_fetched_and_keys_that_are_made_up_are_not_asked_for_one_by_one(
    stack: Stack,
    practice: Practice,
    keys: tuple[Keys, str],
    rsa_key: rsa.RSAPrivateKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, url = keys
    elliptic = ec.generate_private_key(ec.SECP256R1())
    provider.add("old", rsa_key.public_key(), RSAAlgorithm)
    api = await stack.api(sign_in=SignIn(jwks_url=url))

    def token(kid: str) -> str:
        key, algorithm = (elliptic, "ES256") if kid == "new" else (rsa_key, "RS256")
        return "Bearer " + jwt.encode(claims(practice, jti=uuid4().hex), key, algorithm, headers={"kid": kid})

    async with httpx2.AsyncClient(base_url=api) as http:
        assert (await ask(http, token("old"))).status_code == 200
        for number in range(50):
            assert verdict(await ask(http, token(f"made up {number}"))) == (401, "UNAUTHENTICATED")
        assert provider.asked == 1
        provider.add("new", elliptic.public_key(), ECAlgorithm)
        monkeypatch.setattr("api.jwks._PAUSE", 0.0)
        assert (await ask(http, token("new"))).status_code == 200
        assert provider.asked == 2
        # A key that was withdrawn is taken until the keys are fetched anew.
        del provider.keys[0]
        monkeypatch.setattr("api.jwks._FRESH", 0.0)
        assert verdict(await ask(http, token("old"))) == (401, "UNAUTHENTICATED")


async def test_while_the_provider_is_away_known_keys_go_on_and_others_are_answered_503(
    stack: Stack,
    practice: Practice,
    keys: tuple[Keys, str],
    rsa_key: rsa.RSAPrivateKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, url = keys
    provider.add("known", rsa_key.public_key(), RSAAlgorithm)
    api = await stack.api(sign_in=SignIn(jwks_url=url))

    def token(kid: str) -> str:
        return "Bearer " + jwt.encode(claims(practice), rsa_key, "RS256", headers={"kid": kid})

    async with httpx2.AsyncClient(base_url=api) as http:
        assert (await ask(http, token("known"))).status_code == 200
        provider.is_away(monkeypatch)
        for _ in range(3):
            assert (await ask(http, token("known"))).status_code == 200
            assert verdict(await ask(http, token("unknown"))) == (503, "SIGN_IN_UNAVAILABLE")
        provider.status = 200
        assert verdict(await ask(http, token("unknown"))) == (401, "UNAUTHENTICATED")


async def test_a_socket_goes_on_when_nobody_can_judge_its_new_token(
    stack: Stack,
    practice: Practice,
    keys: tuple[Keys, str],
    rsa_key: rsa.RSAPrivateKey,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider, url = keys
    provider.add("known", rsa_key.public_key(), RSAAlgorithm)
    async with plain_socket(await stack.api(sign_in=SignIn(jwks_url=url))) as socket:
        await sign_in(socket, jwt.encode(claims(practice), rsa_key, "RS256", headers={"kid": "known"}))
        provider.is_away(monkeypatch)
        for kid, said in (("unknown", {"type"}), ("known", {"type", "payload"})):
            token = jwt.encode(claims(practice), rsa_key, "RS256", headers={"kid": kid})
            await say(socket, {"type": "ping", "payload": {"Authorization": f"Bearer {token}"}})
            assert (await hear(socket)).keys() == said


async def test_keys_that_a_token_brings_or_points_to_are_never_asked_for(
    stack: Stack, practice: Practice, keys: tuple[Keys, str], rsa_key: rsa.RSAPrivateKey
) -> None:
    provider, url = keys
    provider.add("known", rsa_key.public_key(), RSAAlgorithm)
    theirs, asked = rsa.generate_private_key(65537, 2048), []

    async def evil(request: object) -> Response:
        asked.append(request)
        return JSONResponse({"keys": [{**json.loads(RSAAlgorithm.to_jwk(theirs.public_key())), "kid": "known"}]})

    async with serving_app(Starlette(routes=[Route("/keys", evil)])) as their_url:
        headers: list[dict[str, Any]] = [
            {"jku": f"{their_url}/keys"},
            {"x5u": f"{their_url}/keys"},
            {"jwk": json.loads(RSAAlgorithm.to_jwk(theirs.public_key()))},
            {"kid": f"{their_url}/keys"},
            {"kid": "../../../../dev/null"},
            {"kid": "' OR 1=1 --"},
        ]
        api = await stack.api(sign_in=SignIn(jwks_url=url))
        async with httpx2.AsyncClient(base_url=api) as http:
            for header in headers:
                token = jwt.encode(claims(practice), theirs, "RS256", headers={"kid": "known", **header})
                assert verdict(await ask(http, f"Bearer {token}")) == (401, "UNAUTHENTICATED"), header
    assert asked == []


async def test_an_auditor_reads_and_changes_nothing(stack: Stack, practice: Practice) -> None:
    patient = await make_patient(stack.database, practice)
    auditor = await stack.client(await stack.api(), practice, Role.AUDITOR)
    assert (await auditor("{ patients { nodes { email } } }"))["patients"]["nodes"] == [{"email": patient.email}]
    ids = {"patient": global_id("Patient", patient.id), "message": global_id("Message", patient.id)}
    mutations = {
        "sendMessage": f'(input: {{patientId: "{ids["patient"]}", subject: "a", text: "b"}})',
        "sendMessages": f'(input: {{patientIds: ["{ids["patient"]}"], subject: "a", text: "b"}})',
        "resendMessage": f'(input: {{messageId: "{ids["message"]}"}})',
        "cancelMessage": f'(input: {{messageId: "{ids["message"]}"}})',
        "createPatient": '(input: {name: "a", email: "a@mail.example"})',
        "updatePatient": f'(input: {{patientId: "{ids["patient"]}", name: "b"}})',
        "createSendingAccount": '(input: {kind: SMTP, name: "a", fromAddress: "a@b.example", credentials: []})',
        "updateSendingAccount": f'(input: {{accountId: "{ids["message"]}", name: "b"}})',
        "rotateWebhookSecret": f'(input: {{accountId: "{ids["message"]}"}})',
        "replayWebhookDelivery": f'(input: {{deliveryId: "{ids["message"]}"}})',
    }
    everything = await auditor("{ __schema { mutationType { fields { name } } } }")
    assert {field["name"] for field in everything["__schema"]["mutationType"]["fields"]} == set(mutations)
    for name, arguments in mutations.items():
        answer = await auditor.raw(f"mutation {{ {name}{arguments} {{ errors {{ code }} }} }}")
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"], name
    assert (await auditor("{ patients { nodes { name } } }"))["patients"]["nodes"] == [{"name": "Pat Example"}]


async def test_staff_may_send_and_not_set_up_accounts(stack: Stack, practice: Practice) -> None:
    api = await stack.api()
    mutation = """mutation { createSendingAccount(input: {
      kind: SMTP, name: "Own", fromAddress: "a@b.example",
      credentials: [{name: "host", value: "mail.example"}]
    }) { account { name } errors { code } } }"""
    staff = await stack.client(api, practice)
    [error] = (await staff.raw(mutation))["errors"]
    assert error["extensions"]["code"] == "FORBIDDEN"
    assert error["message"] == "Only an ADMIN may set up sending accounts."
    assert (await staff("{ sendingAccounts { id } }"))["sendingAccounts"] == []
    admin = await stack.client(api, practice, Role.ADMIN)
    assert await admin(mutation) == {"createSendingAccount": {"account": {"name": "Own"}, "errors": []}}


async def test_a_token_opens_its_own_practice_alone(stack: Stack, practice: Practice, other_practice: Practice) -> None:
    await make_patient(stack.database, practice)
    api = await stack.api()
    async with httpx2.AsyncClient(base_url=api) as http:
        response = await ask(http, f"Bearer {token_for(other_practice)}", "{ patients { nodes { id } } }")
        assert response.json() == {"data": {"patients": {"nodes": []}}}
