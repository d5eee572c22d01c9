"""What a token is good for: every route of the API, with every scope alone."""

from __future__ import annotations

import pytest
from starlette.routing import Route

from dispatcher import access, db
from dispatcher.api import scopes
from dispatcher.api.routes import router
from dispatcher.roles import Scope
from tests.api.problems import problem
from tests.api.serving import Site, at_once

#: What each request needs. A route that is not here fails the test.
NEEDS = {
    ("GET", "/api/v1/stories"): Scope.READ,
    ("POST", "/api/v1/stories"): Scope.PUBLISH,
    ("GET", "/api/v1/stories/{slug}"): Scope.READ,
    ("PATCH", "/api/v1/stories/{slug}"): Scope.PUBLISH,
    ("POST", "/api/v1/stories/{slug}/updates"): Scope.PUBLISH,
    ("POST", "/api/v1/stories/{slug}/updates/{seq}/withdraw"): Scope.STEER,
    ("POST", "/api/v1/stories/{slug}/drafts"): Scope.PUBLISH,
    ("GET", "/api/v1/blasts"): Scope.READ,
    ("GET", "/api/v1/blasts/{blast_id}"): Scope.READ,
    ("POST", "/api/v1/blasts/{blast_id}/pause"): Scope.STEER,
    ("POST", "/api/v1/blasts/{blast_id}/resume"): Scope.STEER,
    ("POST", "/api/v1/blasts/{blast_id}/cancel"): Scope.STEER,
    ("POST", "/api/v1/blasts/{blast_id}/retry"): Scope.STEER,
}


def token(site: Site, *scopes: Scope, name: str = "narrow") -> str:
    async def work() -> str:
        async with db.Database(site.settings.database_url) as database:
            return await access.create_token(database, name, scopes, by="cli:test")

    return at_once(work())


def test_every_route_of_the_api_is_in_the_table() -> None:
    found = {
        (method, route.path)
        for route in router.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }

    assert found == NEEDS.keys()


@pytest.mark.parametrize("scope", list(Scope))
def test_a_token_with_one_scope_opens_what_needs_it_and_nothing_else(site: Site, scope: Scope) -> None:
    site.create_story()
    blast = site.publish()["blasts"][0]["id"]
    narrow = token(site, scope)
    with site.browser(Authorization=f"Bearer {narrow}") as client:
        for (method, path), needs in NEEDS.items():
            before = site.everything()
            address = path.replace("{slug}", "tarrow-flood").replace("{blast_id}", str(blast)).replace("{seq}", "1")
            answer = client.request(method, address, json={} if method in {"POST", "PATCH"} else None)
            if needs is scope:
                assert answer.status_code in {200, 409, 422}, (method, path)
            else:
                problem(answer, 403, "scope-missing")
                assert site.everything() == before


def test_the_last_use_of_a_token_is_kept_and_a_revoked_one_is_dead_at_once(site: Site) -> None:
    made = token(site, Scope.READ)
    with site.browser(Authorization=f"Bearer {made}") as client:
        assert site.look("SELECT used_at FROM api_tokens") == [(None,)]
        assert client.get("/api/v1/stories").status_code == 200
        [(used,)] = site.look("SELECT used_at FROM api_tokens")
        assert used is not None
        assert client.get("/api/v1/stories").status_code == 200
        assert site.look("SELECT used_at FROM api_tokens") == [(used,)]

        async def revoke() -> None:
            async with db.Database(site.settings.database_url) as database:
                await access.revoke_token(database, "narrow", by="cli:test")

        at_once(revoke())
        assert client.get("/api/v1/stories").status_code == 401
    kept = site.look("SELECT actor, action, subject FROM audit ORDER BY id")
    assert kept == [("cli:test", "created an API token", "narrow"), ("cli:test", "revoked an API token", "narrow")]


def test_a_token_that_was_made_before_there_were_scopes_keeps_all_of_them(site: Site) -> None:
    site.look("INSERT INTO api_tokens (name, token_hash) VALUES ('old', 'x')")

    assert site.look("SELECT scopes, prefix FROM api_tokens") == [(["publish", "read", "steer"], "")]


def test_a_story_may_be_called_like_something_that_is_steered() -> None:
    assert scopes.needed("PATCH", "/api/v1/stories/withdraw") is Scope.PUBLISH
    assert scopes.needed("POST", "/api/v1/stories/withdraw/updates") is Scope.PUBLISH
    assert scopes.needed("POST", "/api/v1/stories/withdraw/updates/2/withdraw") is Scope.STEER
