"""Readers at the desk: found, understood, suppressed and let go, over HTTP as an editor does it."""

from __future__ import annotations

from dispatcher.roles import Role
from tests.api.serving import Site
from tests.journeys.desks import employ, tab

BEN = "ben@courier.example"
HOSTILE = "<script>alert(1)</script>"


def test_an_editor_finds_a_reader_and_sees_why_nothing_came_without_the_address_in_any_address(site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    reader = site.add_reader("tarrow-flood")
    site.look("UPDATE subscribers SET name = %s", HOSTILE)
    site.add_device(reader, name=HOSTILE[:80])
    site.publish(headline="First")
    site.look("UPDATE subscriptions SET confirmed_at = confirmed_at + interval '1 minute'")
    site.look("UPDATE blasts SET state = 'done', candidates = 0, frozen_at = now()")
    site.look("UPDATE subscribers SET address_hash = %s", b"not what the site would make")
    with tab(site, BEN) as ben:
        found = ben.submit("/desk/subscribers", q="reader1@")
        assert found.status_code == 200
        assert f'href="/desk/subscribers/{reader}"' in found.text
        assert "reader1%40" not in found.text.partition("<main")[0]
        page = ben.get(f"/desk/subscribers/{reader}").text
        assert "The reader confirmed later" in page
        assert HOSTILE not in found.text + page
        assert ben.submit("/desk/subscribers", q="re").status_code == 422
        assert "No reader has an address that begins so." in ben.submit("/desk/subscribers", q="nobody").text
        link = site.settings.public_url + site.manage_path(reader)
        answer = ben.submit("/desk/subscribers", q=link)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/desk/subscribers/{reader}")
        assert ben.submit("/desk/subscribers", q=link[:-1] + "x").status_code == 200
        assert ben.get("/desk/subscribers/999").status_code == 404
        assert ben.get("/desk/subscribers/ana@mail.example").status_code == 404


def test_an_editor_suppresses_a_reader_lifts_it_again_and_ends_a_subscription(site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    site.follow()
    with site.browser() as ada:
        assert ada.post(site.confirm_path()).status_code in {200, 303}
    reader = site.look("SELECT id FROM subscribers")[0][0]
    with tab(site, BEN) as ben:
        answer = ben.submit("/desk/subscribers", q="Ada@Mail.example")
        path = answer.headers["location"]
        assert path == f"/desk/subscribers/{reader}"
        refused = ben.submit(path, do="suppress", reason=" ")
        assert refused.status_code == 422
        assert "reason is empty" in refused.text
        assert ben.submit(path, do="suppress", reason="complained by phone").headers["location"].endswith("=suppressed")
        page = ben.get(path).text
        assert "Nothing is sent to this address" in page
        assert "complained by phone" in page
        assert ben.submit("/desk/suppressions", do="add", email="ada@mail.example", reason="x").status_code == 409
        looked = ben.submit("/desk/suppressions", do="find", email="ada@mail.example").text
        assert "It is:" in looked
        assert "It is not." in ben.submit("/desk/suppressions", do="find", email="other@mail.example").text
        assert ben.submit("/desk/suppressions", do="find", email="no address").status_code == 422
        assert ben.submit(path, do="lift", reason="she took it back").headers["location"].endswith("=lifted")
        assert site.look("SELECT * FROM suppressions") == []
        assert ben.submit(path, do="end:tarrow-flood", reason="she asked").status_code == 303
        assert "the desk had ended the subscription" in ben.get(path).text
        assert ben.submit(path, do="end:tarrow-flood", reason="she asked").status_code == 404
        assert ben.submit(path, do="ask:tarrow-flood").status_code == 422
        log = ben.get("/desk/log?subject=subscriber%3A" + str(reader)).text
        for action in ("suppressed an address", "lifted a suppression", "ended a subscription"):
            assert action in log
        assert "ada@mail.example" not in log


def test_who_has_not_confirmed_is_asked_once_more_by_the_workers_as_the_form_would(site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    site.follow()
    with site.browser() as ada:
        ada.post(site.confirm_path())
    site.look("UPDATE subscriptions SET confirmed_at = NULL")
    with tab(site, BEN) as ben:
        path = ben.submit("/desk/subscribers", q="ada@mail.example").headers["location"]
        assert "Not confirmed" in ben.get(path).text
        assert ben.submit(path, do="ask:tarrow-flood").headers["location"].endswith("done=asked")
    assert site.look("SELECT kind::text, email FROM asks") == [("follow", "ada@mail.example")]
