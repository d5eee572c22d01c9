"""Sign in through the newsroom's OpenID provider: authorization code with PKCE, state and nonce (OpenID Connect 1.0).

The provider vouches for an address; who works here, and as what, is for the desk to say. So only who is at the desk, or
has an open invitation, gets in, and who has turned codes on is asked for one all the same.
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
import time
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote, urlencode, urlsplit

import structlog
from authlib.oauth2.rfc7636 import create_s256_code_challenge
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, KeySetSerialization

from dispatcher import db
from dispatcher.config import OidcSettings
from dispatcher.errors import DispatcherError, Invalid, Unavailable
from dispatcher.outbound import Answer, Outbound, Refused, Unreachable
from dispatcher.people.inviting import MAX_NAME, add_person
from dispatcher.people.sessions import SignedIn, begin, nobody, person_from
from dispatcher.people.signing import as_key
from dispatcher.roles import Role
from dispatcher.texts import one_line
from dispatcher.tokens import Seal

log = structlog.get_logger()

#: Seconds that somebody has to sign in over there, and for which what the provider says of itself is remembered.
ASKED_FOR = 600.0
REMEMBERED = 3600.0
#: Seconds at least between two looks for keys that the provider has made since.
KEYS_AFTER = 60.0
#: Seconds by which clocks may differ.
LEEWAY = 60
#: Signatures with a key pair. Never `none`, and no shared secret: that would be a key for whoever reads our settings.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_PAIRS = ("RSA", "EC", "OKP")
MAX_CODE = 4_000


class ProviderFailed(Unavailable):
    """The sign-in service does not answer as it should."""

    remedy = "Try again, or sign in with your password."


class AskLost(DispatcherError):
    """This sign-in was begun somewhere else, or too long ago."""

    status = 403
    remedy = "Begin it again, in this browser."


class NotVouchedFor(DispatcherError):
    """The sign-in service did not let you in."""

    status = 403
    remedy = "Sign in there again, or ask a lead for an invitation to the address that you have there."


@dataclass(frozen=True, slots=True)
class Ask:
    """A sign-in that is begun: where it goes on, and what the browser keeps meanwhile."""

    url: str
    sealed: str


@dataclass(frozen=True, slots=True)
class Vouched:
    """Whom the provider vouches for, and where they wanted to go."""

    email: str
    name: str
    then: str


class Provider:
    """The newsroom's OpenID provider, as one process talks to it: through the guarded client alone."""

    def __init__(self, settings: OidcSettings, public_url: str, secret_key: str) -> None:
        self._settings = settings
        self._back = f"{public_url}/desk/oidc/back"
        self._seal = Seal(secret_key, "oidc")
        # The operator wrote the issuer out; whatever else the provider names has to lie on the public internet.
        self._outbound = Outbound([settings.origin])
        self._metadata: dict[str, Any] = {}
        self._metadata_at = self._keys_at = float("-inf")
        self._keys = KeySet([])

    @property
    def name(self) -> str:
        """The provider as people know it: by its host."""
        return self._settings.name

    async def close(self) -> None:
        await self._outbound.close()

    async def begin(self, then: str) -> Ask:
        """Begin to sign in, and go to `then` afterwards. Raises `ProviderFailed`."""
        metadata = await self._about()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        kept = {"state": state, "nonce": nonce, "verifier": verifier, "then": then, "until": time.time() + ASKED_FOR}
        query = {
            "response_type": "code",
            "client_id": self._settings.client_id,
            "redirect_uri": self._back,
            "scope": "openid email profile",
            "state": state,
            "nonce": nonce,
            "code_challenge": create_s256_code_challenge(verifier),
            "code_challenge_method": "S256",
        }
        endpoint = str(metadata["authorization_endpoint"])
        return Ask(f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}", self._seal.close(json.dumps(kept)))

    async def vouched(self, sealed: str, *, code: str, state: str, issuer: str = "") -> Vouched:
        """Whom a code is about that came back. `sealed` is what this browser kept; `issuer` is RFC 9207's.

        Raises `AskLost`, `ProviderFailed`, `NotVouchedFor`.
        """
        kept = self._kept(sealed)
        if not hmac.compare_digest(state.encode(errors="replace"), kept["state"].encode()):
            raise AskLost
        if issuer and issuer != self._settings.issuer:
            raise AskLost("This answer comes from another sign-in service.")
        if not code or len(code) > MAX_CODE:
            raise NotVouchedFor
        claims = await self._claims(await self._exchange(code, kept["verifier"]), kept["nonce"])
        email = claims.get("email")
        if not isinstance(email, str) or claims.get("email_verified") is not True:
            raise NotVouchedFor("The sign-in service has not verified your address.")
        return Vouched(as_key(email), str(claims.get("name") or ""), kept["then"])

    def _kept(self, sealed: str) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(self._seal.open(sealed))
        except Invalid as error:
            raise AskLost from error
        if kept["until"] < time.time():
            raise AskLost
        return kept

    async def _exchange(self, code: str, verifier: str) -> dict[str, Any]:
        """The tokens for a code (RFC 6749 §4.1.3). One that is no good is refused by the provider, once and for all."""
        metadata, settings = await self._about(), self._settings
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._back,
            "code_verifier": verifier,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        methods = metadata.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
        if "client_secret_basic" in methods:
            pair = f"{quote(settings.client_id, safe='')}:{quote(settings.client_secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        else:
            form |= {"client_id": settings.client_id, "client_secret": settings.client_secret}
        try:
            answer = await self._outbound.post(
                str(metadata["token_endpoint"]), headers=headers, data=urlencode(form).encode()
            )
        except (Refused, Unreachable) as error:
            raise _failed("token", error.message) from error
        if 400 <= answer.status < 500 and answer.status != 429:
            log.warning("sign-in refused by the provider", status=answer.status)
            raise NotVouchedFor
        return _read("token", answer)

    async def _claims(self, tokens: dict[str, Any], nonce: str) -> dict[str, Any]:
        """What the identity token says, once it has proved to be the provider's, for us, and for this very sign-in."""
        raw = tokens.get("id_token")
        if not isinstance(raw, str):
            raise _failed("token", "no identity token")
        try:
            token = jwt.decode(raw, await self._keys_for(raw), algorithms=ALGORITHMS)
            claims = CodeIDToken(
                token.claims,
                token.header,
                options={
                    "iss": {"essential": True, "value": self._settings.issuer},
                    "aud": {"essential": True, "value": self._settings.client_id},
                },
                params={
                    "nonce": nonce,
                    "client_id": self._settings.client_id,
                    "access_token": tokens.get("access_token"),
                },
            )
            claims.validate(leeway=LEEWAY)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _failed("identity token", type(error).__name__) from error
        return dict(claims)

    async def _about(self) -> dict[str, Any]:
        """What the provider says of itself (OpenID Connect Discovery 1.0 §4)."""
        if time.monotonic() - self._metadata_at > REMEMBERED:
            where = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
            found = await self._get("discovery", where)
            if found.get("issuer") != self._settings.issuer:
                raise _failed("discovery", "another issuer")
            for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                if not self._may_lie_at(found.get(name)):
                    raise _failed("discovery", f"no usable {name}")
            self._metadata, self._metadata_at = found, time.monotonic()
        return self._metadata

    def _may_lie_at(self, url: object) -> bool:
        """Browsers and we are sent to encrypted places only, or to the very origin that the operator wrote out."""
        if not isinstance(url, str) or not url.isascii() or any(each <= " " for each in url):
            return False
        parts = urlsplit(url)
        return bool(parts.hostname) and (
            parts.scheme == "https" or f"{parts.scheme}://{parts.netloc}" == self._settings.origin
        )

    async def _keys_for(self, raw: str) -> KeySet:
        """The provider's keys; looked for again if it signs with one that we have not seen."""
        kid = _header(raw).get("kid")
        age = time.monotonic() - self._keys_at
        known = kid is None or any(key.kid == kid for key in self._keys.keys)
        if age > REMEMBERED or (not known and age > KEYS_AFTER):
            found = await self._get("keys", str((await self._about())["jwks_uri"]))
            keys = found.get("keys")
            usable = [
                key
                for key in (keys if isinstance(keys, list) else [])
                if isinstance(key, dict) and key.get("kty") in _PAIRS and key.get("use") != "enc"
            ]
            self._keys = KeySet.import_key_set(cast("KeySetSerialization", {"keys": usable}))
            self._keys_at = time.monotonic()
        return self._keys

    async def _get(self, what: str, url: str) -> dict[str, Any]:
        try:
            return _read(what, await self._outbound.get(url, headers={"Accept": "application/json"}))
        except (Refused, Unreachable) as error:
            raise _failed(what, error.message) from error


async def sign_in_as(database: db.Database, vouched: Vouched, *, browser: str) -> SignedIn:
    """A session for whom the provider vouches; half of one where their code is still to come.

    Somebody with an open invitation joins, with the role that it gives, and without a password. Raises `NotVouchedFor`.
    """
    async with database.transaction() as tx:
        await tx.one("lock_first_lead")
        row = await tx.one("find_person_by_email", email=vouched.email)
        if row is None or row["ended_at"] is not None:
            row = await _joined(tx, vouched)
        locked = await tx.one("lock_person", person_id=row["id"])
        if locked is None or locked["ended_at"] is not None:
            raise nobody()
        person = person_from(locked)
        return await begin(tx, person, browser, half=person.has_totp)


async def _joined(tx: db.Connection, vouched: Vouched) -> db.Row:
    invitation = await tx.one("use_invitation_of", email=vouched.email)
    if invitation is None:
        raise NotVouchedFor("Nobody at this desk has the address that the sign-in service told.")
    name = _name(vouched)
    person_id = await add_person(tx, vouched.email, name, Role(invitation["role"]), None, invitation["invited_by"])
    row = await tx.one("find_person", person_id=person_id)
    if row is None:
        raise nobody()
    return row


def _name(vouched: Vouched) -> str:
    try:
        return one_line("name", vouched.name, longest=MAX_NAME)
    except Invalid:
        return vouched.email.partition("@")[0][:MAX_NAME]


def _header(raw: str) -> dict[str, Any]:
    """The unproved head of a token: only which key to look for is taken from it. Raises ValueError."""
    part = raw.partition(".")[0]
    found = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    if not isinstance(found, dict):
        raise ValueError("the head is no object")  # noqa: TRY004  # of the data, not of our types
    return found


def _read(what: str, answer: Answer) -> dict[str, Any]:
    if answer.status != 200 or not answer.whole:
        raise _failed(what, f"status {answer.status}")
    try:
        found = json.loads(answer.body)
    except ValueError as error:
        raise _failed(what, "no JSON") from error
    if not isinstance(found, dict):
        raise _failed(what, "no JSON object")
    return found


def _failed(what: str, reason: str) -> ProviderFailed:
    """Told in the log, for whoever set it up; whoever signs in is told that it does not work."""
    log.error("sign-in service fails", part=what, reason=reason)
    return ProviderFailed()
