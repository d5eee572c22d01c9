"""Into the desk through the newsroom's OpenID provider, a real one over HTTP, and past one that lies."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from joserfc.jwk import RSAKey

from dispatcher.config import OidcSettings
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from dispatcher.roles import Role
from tests.api.serving import Site, running, settings_for
from tests.journeys.desks import Tab, employ, field_of, invite, tab, turn_codes_on
from tests.support.databases import fresh_database
from tests.support.provider import CLIENT, SECRET, Provider, a_provider, shared_key

ADA = "ada@courier.example"


@pytest.fixture(scope="module")
def trusting(postgres: Postgres, template_database: str, valkey: Valkey) -> Iterator[tuple[str, str]]:
    with fresh_database(postgres, template_database) as url:
        yield url, valkey.url


@pytest.fixture
def provider() -> Iterator[Provider]:
    with a_provider() as found:
        yield found


@pytest.fixture
def site(trusting: tuple[str, str], provider: Provider) -> Iterator[Site]:
    """A site that trusts this provider, and has asked it nothing yet."""
    oidc = OidcSettings(issuer=provider.issuer, client_id=CLIENT, client_secret=SECRET)
    with running(replace(settings_for(*trusting), oidc=oidc)) as found:
        found.empty()
        yield found


def out(opened: Tab, path: str = "/desk/oidc") -> str:
    """Begin: where the provider's page is."""
    answer = opened.get(path)
    assert answer.status_code == 303, answer.text
    return answer.headers["location"]


def bring_back(opened: Tab, path: str, **changes: str) -> httpx2.Response:
    """Come back, and send the form that a script sends."""
    page = opened.get(path).text
    fields = {name: field_of(page, name) for name in ("csrf", "code", "state", "iss")}
    return opened.client.post("/desk/oidc/back", data={**fields, **changes})


def signed_in(opened: Tab, provider: Provider, email: str = ADA, **claims: Any) -> httpx2.Response:
    told = {"email": email, "email_verified": True, "name": "Ada Lovelace", **claims}
    return bring_back(opened, provider.sign_in(out(opened), **told))


def test_who_works_here_gets_in_and_only_by_a_form_of_this_very_browser(site: Site, provider: Provider) -> None:
    employ(site, role=Role.EDITOR)
    with tab(site) as ada, tab(site) as eve:
        assert "Sign in with 127.0.0.1" in ada.get("/desk/sign-in").text
        url = out(ada, "/desk/oidc?next=%2Fdesk%2Flog")
        asked = parse_qs(urlsplit(url).query)
        assert (asked["response_type"], asked["code_challenge_method"]) == (["code"], ["S256"])
        assert asked["scope"] == ["openid email profile"]
        back = provider.sign_in(url, email="Ada@Courier.example", email_verified=True)
        before = site.everything()
        ada.get(back)
        assert site.everything() == before
        assert eve.get(back).status_code == 200
        assert bring_back(eve, back).status_code == 403
        answer = bring_back(ada, back)
        assert (answer.status_code, answer.headers["location"]) == (303, "/desk/log")
        assert ada.is_in()
        assert not eve.is_in()
        assert "desk-oidc" not in ada.client.cookies
        assert bring_back(ada, back).status_code == 403


def test_codes_are_asked_for_as_always(site: Site, provider: Provider) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        turn_codes_on(ada)
    with tab(site) as again:
        answer = signed_in(again, provider)
        assert answer.headers["location"] == "/desk/code"
        assert not again.is_in()


def test_who_is_invited_joins_with_the_role_of_the_invitation_and_nobody_else_gets_in(
    site: Site, provider: Provider
) -> None:
    employ(site)
    path = invite(site, "ben@courier.example", Role.REPORTER)
    with tab(site) as ben, tab(site) as eve:
        assert signed_in(ben, provider, "ben@courier.example", name="Ben\r\nBcc: x").status_code == 303
        assert ben.is_in()
        assert ben.get("/desk/people").status_code == 403
        assert ben.get(path).status_code == 404
        refused = signed_in(eve, provider, "eve@courier.example")
        assert refused.status_code == 403
        assert "Nobody at this desk has the address" in refused.text
        site.look("UPDATE people SET ended_at = now() WHERE email = 'ben@courier.example'")
        assert signed_in(eve, provider, "ben@courier.example").status_code == 403
        assert not eve.is_in()
    assert site.look("SELECT name, password_hash FROM people WHERE email LIKE 'ben%%'") == [("ben", None)]


OTHER_KEY = RSAKey.generate_key(2048, {"kid": "first"})
#: What an identity token must not say, and what must not come in its place.
LIES: dict[str, Callable[[Provider], object]] = {
    "an address that is not verified": lambda it: it.claims.update(email_verified=False),
    "an address that is verified in words": lambda it: it.claims.update(email_verified="true"),
    "no address": lambda it: it.claims.update(email=None),
    "another issuer": lambda it: it.claims.update(iss="https://evil.example"),
    "for somebody else": lambda it: it.claims.update(aud="another client"),
    "for several, and not ours": lambda it: it.claims.update(aud=["a", CLIENT], azp="a"),
    "another nonce": lambda it: it.claims.update(nonce="x"),
    "no nonce": lambda it: it.claims.update(nonce=None),
    "expired": lambda it: it.claims.update(exp=int(time.time()) - 3600),
    "not yet": lambda it: it.claims.update(nbf=int(time.time()) + 3600),
    "a hash of another access token": lambda it: it.claims.update(at_hash="AAAA"),
    "signed with another key": lambda it: it.sign_by(OTHER_KEY, "RS256"),
    "signed with the shared secret": lambda it: it.sign_by(shared_key(), "HS256"),
    "no token": lambda it: it.answers.update({"/token": (200, b"{}")}),
    "no JSON": lambda it: it.answers.update({"/token": (200, b"<html>")}),
    "a token that is none": lambda it: it.answers.update({"/token": (200, b'{"id_token": "a.b.c"}')}),
    "an unsigned token": lambda it: it.answers.update({"/token": (200, b'{"id_token": "eyJhbGciOiJub25lIn0.e30."}')}),
    "an endless answer": lambda it: it.answers.update({"/token": (200, b'"' + b"x" * 200_000 + b'"')}),
    "a redirect": lambda it: it.answers.update({"/token": (302, b"")}),
    "keys that are none": lambda it: it.answers.update({"/keys": (200, b'{"keys": [{"kty": "RSA"}]}')}),
    "no keys": lambda it: it.answers.update({"/keys": (500, b"")}),
    "a list of keys that is none": lambda it: it.answers.update({"/keys": (200, b'{"keys": {"kty": "RSA"}}')}),
}


def test_no_lie_of_a_provider_opens_the_door(site: Site, provider: Provider) -> None:
    employ(site)
    # Keys that were good once are remembered: those lies come first.
    for lie in sorted(LIES, key=lambda each: "keys" not in each):
        LIES[lie](provider)
        with tab(site) as ada:
            answer = signed_in(ada, provider)
            assert answer.status_code in {403, 503}, lie
            assert not ada.is_in(), lie
            assert SECRET not in unescape(answer.text)
        provider.be_honest()
    assert site.look("SELECT count(*) FROM sessions") == [(0,)]
    with tab(site) as ada:
        assert signed_in(ada, provider).status_code == 303


MISPLACED: tuple[dict[str, Any], ...] = (
    {"issuer": "https://evil.example"},
    {"token_endpoint": "http://169.254.169.254/token"},
    {"authorization_endpoint": "javascript:alert(1)"},
    {"authorization_endpoint": "http://evil.example/"},
    {"jwks_uri": None},
)


def test_nobody_is_sent_to_where_a_provider_must_not_lie(site: Site, provider: Provider) -> None:
    for metadata in MISPLACED:
        provider.metadata = metadata
        with tab(site) as ada:
            answer = ada.get("/desk/oidc")
            assert answer.status_code == 503, metadata
            assert "sign in with your password" in answer.text


def test_a_provider_that_leads_to_a_neighbour_is_not_followed_there(site: Site, provider: Provider) -> None:
    employ(site)
    provider.metadata.update(token_endpoint="https://127.0.0.1:1/token")
    with tab(site) as ada:
        assert signed_in(ada, provider).status_code == 503
        assert not ada.is_in()


def test_another_state_an_old_ask_and_a_refusal_over_there_open_nothing(site: Site, provider: Provider) -> None:
    employ(site)
    with tab(site) as ada:
        back = provider.sign_in(out(ada), email=ADA, email_verified=True)
        assert bring_back(ada, back, state="x").status_code == 403
        assert bring_back(ada, back, iss="https://evil.example").status_code == 403
        assert bring_back(ada, back, code="made up").status_code == 403
        assert ada.get("/desk/oidc/back?error=access_denied&state=x").status_code == 403
        assert ada.get("/desk/oidc/back").status_code == 403
        ada.client.cookies.delete("desk-oidc")
        assert bring_back(ada, back).status_code == 403
        ada.client.cookies.set("desk-oidc", "AAAA")
        assert bring_back(ada, back).status_code == 403
        assert not ada.is_in()


def test_a_provider_that_has_made_new_keys_is_believed_again_and_asked_no_more_than_needed(
    site: Site, provider: Provider
) -> None:
    employ(site)
    for _ in range(3):
        with tab(site) as ada:
            assert signed_in(ada, provider).status_code == 303
    assert [path for path in provider.asked if path != "/token"] == ["/.well-known/openid-configuration", "/keys"]
    provider.key = RSAKey.generate_key(2048, {"kid": "second"})
    with tab(site) as ada:
        assert signed_in(ada, provider).status_code == 503  # it was looked for a moment ago
