"""Settings of the desk and tokens of the API: set by leads alone, written in the log, and no secret is shown."""

from __future__ import annotations

import re
from dataclasses import replace

from dispatcher.config import RelaySettings
from tests.api.serving import SECRET, Site, running
from tests.journeys.desks import employ, tab

ADA = "ada@courier.example"


def test_a_lead_sets_when_a_second_person_has_to_approve(site: Site) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        refused = ada.submit("/desk/settings", is_over="yes", over="many", all="yes")
        assert refused.status_code == 422
        assert "That is no number of readers." in refused.text
        assert 'value="many"' in refused.text
        assert site.look("SELECT * FROM desk_settings") == []
        assert ada.submit("/desk/settings", breaking="yes", is_over="yes", over="10,000").status_code == 303
        page = ada.get("/desk/settings?done=rule").text
        assert "It counts for whatever is sent from now on." in page
        assert 'value="10000"' in page
        assert site.look("SELECT value FROM desk_settings") == [({"breaking": True, "over": 10000, "all": False},)]
        assert "set who approves" in ada.get("/desk/log").text
        assert ada.submit("/desk/settings", over="10,000").status_code == 303
        assert site.look("SELECT value FROM desk_settings") == [({"breaking": False, "over": None, "all": False},)]


def test_a_token_is_shown_once_calls_the_api_and_is_refused_from_the_moment_it_is_revoked(site: Site) -> None:
    employ(site)
    with tab(site, ADA) as ada:
        assert ada.submit("/desk/tokens", do="create", name="screen").status_code == 422
        made = ada.submit("/desk/tokens", **{"do": "create", "name": "screen", "scope-read": "yes"})
        token = re.search(r"dsp_[\w-]+", made.text)
        assert token is not None
        assert token[0] not in ada.get("/desk/tokens").text
        assert ada.submit("/desk/tokens", **{"do": "create", "name": "screen", "scope-read": "yes"}).status_code == 409
        with site.browser(Authorization=f"Bearer {token[0]}") as program:
            assert program.get("/api/v1/stories").status_code == 200
            assert program.post("/api/v1/stories", json={"slug": "a", "headline": "A"}).status_code == 403
            assert ada.submit("/desk/tokens", do="revoke", name="screen").status_code == 303
            assert program.get("/api/v1/stories").status_code == 401
        assert ada.submit("/desk/tokens", do="revoke", name="screen").status_code == 404
        log = ada.get("/desk/log").text
        assert "created an API token" in log
        assert "revoked an API token" in log
    assert token[0] not in repr(site.everything())


def test_no_page_shows_a_secret_of_the_installation(database_url: str, broker_url: str, site: Site) -> None:
    relay = RelaySettings.parse("smtp://mailer-name:mailer-password@127.0.0.1:1?rate=50")
    secrets = [SECRET, "mailer-name", "mailer-password", database_url, broker_url]
    with running(replace(site.settings, database_url=database_url, broker_url=broker_url, relays=(relay,))) as own:
        employ(own)
        with tab(own, ADA) as ada:
            pages = [ada.get(path).text for path in ("/desk/settings", "/desk/health", "/desk/tokens", "/desk/me")]
            assert "signs in, at most 50 a second" in pages[0]
            pages += [own.get(path).text for path in ("/metrics", "/readyz", "/nothing", "/api/v1/nothing")]
            own.look("ALTER TABLE people RENAME TO gone")
            broken = [ada.get("/desk"), own.get("/desk/sign-in"), own.post("/desk/sign-in", {"email": ADA})]
            pages += [each.text for each in broken]
            assert broken[0].status_code == 500
    for page in pages:
        assert [secret for secret in secrets if secret in page] == []
