"""An OpenID provider on this machine, over real HTTP: it signs whoever is named in, and lies as a test tells it to.

with a_provider() as provider:
    …  # `provider.issuer` goes into the settings
    back = provider.sign_in(address_that_the_site_led_to, email="ada@courier.example")
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

FIRST = RSAKey.generate_key(2048, {"kid": "first"})
CLIENT, SECRET = "dispatcher", "a secret:with signs & spaces"


@dataclass
class Provider:
    """What the provider knows, and how it misbehaves."""

    issuer: str = ""
    key: RSAKey = field(default_factory=lambda: FIRST)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)  #: what was asked, by the code that was given for it
    claims: dict[str, Any] = field(default_factory=dict)  #: in place of those that are true
    metadata: dict[str, Any] = field(default_factory=dict)  #: the same for what it says of itself
    sign_with: Any = None  #: a key that is not the published one
    algorithm: str = "RS256"
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)  #: by path, in place of its own
    asked: list[str] = field(default_factory=list)  #: paths, in order

    def sign_in(self, url: str, **claims: Any) -> str:
        """Somebody signs in over there: the path and query that their browser is led back to."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        code = f"code{len(self.codes)}"
        self.codes[code] = {**asked, "claims": json.dumps(claims)}
        back = urlsplit(asked["redirect_uri"])
        return f"{back.path}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.issuer})}"

    def sign_by(self, key: Any, algorithm: str) -> None:
        """Sign with another key than the one that is published."""
        self.sign_with, self.algorithm = key, algorithm

    def be_honest(self) -> None:
        """Lie no more."""
        self.sign_with, self.algorithm = None, "RS256"
        self.claims, self.metadata, self.answers = {}, {}, {}

    def about(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **self.metadata,
        }

    def keys(self) -> dict[str, Any]:
        return {
            "keys": [{**self.key.as_dict(private=False), "use": "sig"}, {"kty": "oct", "k": "AAAA", "kid": "shared"}]
        }

    def tokens(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        """What a code is exchanged for; each counts once, for the client and the challenge that it was made for."""
        kind, _, pair = authorization.partition(" ")
        user, _, password = base64.b64decode(pair).decode().partition(":")
        asked = self.codes.pop(form.get("code", ""), None)
        challenge = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            asked is None
            or (kind, unquote(user), unquote(password)) != ("Basic", CLIENT, SECRET)
            or form.get("redirect_uri") != asked["redirect_uri"]
            or asked["code_challenge"] != base64.urlsafe_b64encode(challenge).decode().rstrip("=")
        ):
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        told = {
            "iss": self.issuer, "sub": "1", "aud": CLIENT, "iat": now, "exp": now + 60, "nonce": asked["nonce"],
            **json.loads(asked["claims"]), **self.claims,
        }  # fmt: skip
        signed = jwt.encode(
            {"alg": self.algorithm, "kid": self.key.kid or ""}, told, self.sign_with or self.key, [self.algorithm]
        )
        return 200, {"access_token": "a", "token_type": "Bearer", "id_token": signed}


def shared_key() -> OctKey:
    """A key that anybody who knows the client's secret has."""
    return OctKey.import_key(SECRET.ljust(32, "."))


@contextmanager
def a_provider() -> Iterator[Provider]:
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths = {"/.well-known/openid-configuration": provider.about, "/keys": provider.keys}
            self.answer(200, paths[urlsplit(self.path).path]())

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"])).decode()
            form = {name: values[0] for name, values in parse_qs(raw).items()}
            self.answer(*provider.tokens(form, self.headers.get("Authorization", "")))

        def answer(self, status: int, found: dict[str, Any]) -> None:
            path = urlsplit(self.path).path
            provider.asked.append(path)
            status, body = provider.answers.get(path, (status, json.dumps(found).encode()))
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Location", "http://127.0.0.1:1/") if status == 302 else None
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        server.server_close()
        thread.join(20)
