"""A story from its first headline to its end, at the desk, without a script."""

from __future__ import annotations

import re

from dispatcher.roles import Role
from tests.api.serving import Site
from tests.journeys.desks import employ, field_of, tab
from tests.journeys.test_web_guards import HOSTILE

ADA = "ada@courier.example"
REX = "rex@courier.example"


def sealed(page: str) -> dict[str, str]:
    """What sends the draft that a page shows."""
    return {"csrf": field_of(page, "csrf"), "version": field_of(page, "version"), "do": "send"}


def test_a_story_is_begun_changed_followed_up_and_closed(site: Site) -> None:
    employ(site, role=Role.EDITOR)
    with tab(site, ADA) as ada:
        assert ada.get("/desk/slug?headline=Повінь%20на%20Дніпрі").json() == {"slug": "povin-na-dnipri"}
        made = ada.submit("/desk/stories/new", headline="Повінь на Дніпрі", slug="", summary="Water.", in_doubt="hold")
        assert made.headers["location"] == "/desk/stories/povin-na-dnipri?done=created"
        home = "/desk/stories/povin-na-dnipri"
        site.add_reader("povin-na-dnipri")
        taken = ada.submit(
            "/desk/stories/new", headline="Another\r\n one", slug="povin-na-dnipri", summary="", in_doubt=""
        )
        assert taken.status_code == 409
        assert "<code>povin-na-dnipri-2</code> is free" in taken.text
        assert ">\nAnother one</textarea>" in taken.text, "what was typed is kept, on one line"
        for wrong in ({"headline": " "}, {"slug": "Not A Slug"}, {"slug": "new"}, {"in_doubt": "toss a coin"}):
            answer = ada.submit(
                "/desk/stories/new", **{"headline": "Wrong", "slug": "", "summary": "", "in_doubt": "", **wrong}
            )
            assert (answer.status_code, "problem" in answer.text) == (422, True), wrong

        edited = ada.submit(f"{home}/edit", headline="The Dnipro floods", summary="", in_doubt="")
        assert edited.headers["location"] == f"{home}?done=changed"
        page = ada.get(home).text
        assert "The Dnipro floods" in page
        assert "as everywhere here" in page
        assert "Nothing has been published yet" in page
        assert ada.submit(f"{home}/follow-up", page=home).status_code == 404
        site.publish("povin-na-dnipri", "The dam holds", importance="breaking")
        page = ada.get(home).text
        assert "readers are being counted" in page
        assert f"{home}/updates/1?ask=correct#correct" in page
        draft = ada.submit(f"{home}/follow-up", page=home)
        assert re.fullmatch(r"/desk/drafts/\d+", draft.headers["location"])
        assert "Being written" in ada.get(home).text

        asked = ada.get(f"{home}/close").text
        assert "1 draft of it" in asked
        assert "Close it without telling 1 reader" in asked
        assert "1 reader gets it as the last word" in asked
        assert "and 1 reader is let go" in asked
        lost = ada.submit(f"{home}/close", do="close", successor="no-such")
        assert (lost.status_code, 'value="no-such"' in lost.text) == (422, True)
        final = ada.submit(f"{home}/close", do="final", successor="")
        assert site.look("SELECT kind::text FROM drafts ORDER BY id DESC LIMIT 1") == [("final",)]
        assert re.fullmatch(r"/desk/drafts/\d+", final.headers["location"])
        assert ada.submit(f"{home}/close", do="close", successor="").headers["location"] == f"{home}?done=closed"
        page = ada.get(f"{home}?done=closed").text
        assert "Readers were told nothing" in page
        assert "Write an update" not in page
        assert "is closed already" in ada.get(f"{home}/close").text
        assert ada.submit(f"{home}/edit", headline="The Dnipro flood", summary="", in_doubt="").status_code == 303
        told = [action for (action,) in site.look("SELECT action FROM audit WHERE subject LIKE 'story:%%' ORDER BY id")]
        assert [each for each in told if "story" in each] == [
            *("created a story", "changed a story", "closed a story", "changed a story")
        ]


def test_two_stories_are_merged_after_the_desk_has_seen_whom_it_concerns(site: Site) -> None:
    employ(site, role=Role.EDITOR)
    site.create_story("levee", "The levee")
    site.create_story("dam", "The dam")
    both, alone = site.add_reader("levee", "dam"), site.add_reader("levee")
    with tab(site, ADA) as ada:
        page = "/desk/stories/levee/merge"
        seen = ada.get(f"{page}?into=dam").text
        assert "Merge: 1 reader moves" in seen
        assert ada.get(f"{page}?into=levee").status_code == 422
        assert ada.get(f"{page}?into=no-such").status_code == 404
        assert site.follows(alone) == {"levee"}, "looking changes nothing"
        assert ada.submit(page, into="dam").headers["location"] == "/desk/stories/levee?done=merged"
        after = ada.get("/desk/stories/levee?done=merged").text
        assert "one now" in after
        assert 'href="/desk/stories/dam"' in after
        assert ada.submit(page, page="/desk", into="dam").status_code == 409
    assert site.follows(alone) == site.follows(both) == {"dam"}
    public = site.get("/s/levee").text
    assert "This story ends here. It goes on as" in public
    assert 'action="/s/dam/follow"' in public


def test_the_palette_finds_what_the_role_may_do_and_nothing_else(site: Site) -> None:
    employ(site)
    employ(site, REX, Role.REPORTER)
    site.create_story("tunnel", "Harbour tunnel inquiry")
    site.create_story("flood", HOSTILE[0])
    site.publish("tunnel", "Two witnesses")
    with tab(site, ADA) as ada, tab(site, REX) as rex:

        def found(who: object, query: str) -> list[tuple[str, str, bool]]:
            answer = (ada if who is ada else rex).client.get(
                "/desk/jump", params={"q": query}, headers={"Accept": "application/json"}
            )
            return [(each["title"], each["url"], each["post"]) for each in answer.json()["places"]]

        home = "/desk/stories/tunnel"
        story = ("Harbour tunnel inquiry", home, False)
        write = ("Write update 2", f"{home}/write", True)
        watch = ("Watch update 1 go out", f"{home}/updates/1", False)
        correct = ("Correct update 1", f"{home}/updates/1?ask=correct#correct", False)
        assert found(ada, "harb") == [story, watch, write, correct]
        assert found(rex, "harb") == [story, watch, write]
        assert found(ada, "write in tunnel") == [write]
        assert found(ada, "Close harbour") == [("Close the story", f"{home}/close", False)]
        assert found(rex, "close harbour") == []
        assert ("People", "/desk/people", False) in found(ada, "peo")
        assert found(rex, "peo") == found(rex, "new sto") == []
        assert ("New story", "/desk/stories/new", False) in found(ada, "")
        assert found(ada, "%") == found(ada, "\0_") == []
        page = ada.get("/desk/jump?q=tunnel").text
        assert f'action="{home}/write"' in page
        assert HOSTILE[0] not in ada.get("/desk/jump?q=script").text
        assert "Nothing is called that" in ada.get("/desk/jump?q=zzz").text


def test_a_final_update_ends_a_story_at_the_desk_and_what_was_wrong_in_it_can_still_be_put_right(site: Site) -> None:
    employ(site)
    site.create_story("flood", "The flood")
    site.create_story("rebuilding", "Rebuilding")
    words = {"headline": "It is over", "summary": "All is dry.", "body": "Go home.", "importance": "major"}
    with tab(site, ADA) as ada:
        begun = ada.submit("/desk/stories/flood/close", do="final", successor="rebuilding").headers["location"]
        page = ada.get(begun).text
        assert 'name="successor" maxlength="80" value="rebuilding"' in page
        sent = ada.client.post(begun, data={**sealed(page), **words, "kind": "final", "successor": "rebuilding"})
        assert sent.headers["location"].startswith("/desk/stories/flood/updates/1"), sent.text
        home = ada.get("/desk/stories/flood").text
        assert 'href="/desk/stories/rebuilding"' in home
        assert "Write an update" not in home
        assert ada.submit("/desk/stories/flood/write", page="/desk").status_code == 409
        wrong = "/desk/stories/flood/updates/1"
        right = ada.submit(f"{wrong}/correct", page=wrong).headers["location"]
        page = ada.get(right).text
        assert "Corrections can still be sent in it" in page
        corrected = {**words, "headline": "It is not over", "kind": "correction", "corrects": "1"}
        sent = ada.client.post(right, data={**sealed(page), **corrected})
        assert sent.headers["location"].startswith("/desk/stories/flood/updates/2"), sent.text
