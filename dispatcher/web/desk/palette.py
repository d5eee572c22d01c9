"""Jump to a story, a draft or an action by typing: what the palette asks for, and a page for whoever has no script."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass

from starlette.responses import JSONResponse, Response

from dispatcher import overview
from dispatcher.model import StoryState
from dispatcher.overview import FoundDraft, FoundStory
from dispatcher.people import Person
from dispatcher.roles import What
from dispatcher.web.desk.drafts import STATES
from dispatcher.web.desk.front_page import query_of
from dispatcher.web.desk.visiting import Visit
from dispatcher.web.readers import PRIVATE

MOST = 12


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere to go. `post`: a button, because something begins there."""

    title: str
    about: str
    url: str
    post: bool = False
    serif: bool = False  #: the title is the newsroom's, not ours


@dataclass(frozen=True, slots=True)
class _Action:
    title: str
    url: str
    needs: What
    words: str = ""  #: by which it is found too


ACTIONS = (
    _Action("New story", "/desk/stories/new", What.SEND, "create begin"),
    _Action("Stories", "/desk", What.SEE, "list home front"),
    _Action("Drafts and approvals", "/desk/drafts", What.WRITE, "waiting approve scheduled"),
    _Action("Subscribers", "/desk/subscribers", What.READERS, "readers find search why"),
    _Action("Import readers", "/desk/import", What.READERS, "csv upload subscribers"),
    _Action("Suppressions", "/desk/suppressions", What.READERS, "blocked bounces complaints"),
    _Action("Log", "/desk/log", What.LOG, "audit history who"),
    _Action("Health", "/desk/health", What.SEE, "relays workers queue status"),
    _Action("Settings", "/desk/settings", What.SETTINGS, "approval rule newsroom"),
    _Action("API tokens", "/desk/tokens", What.SETTINGS, "cms"),
    _Action("People", "/desk/people", What.PEOPLE, "invite roles password"),
    _Action("Your account", "/desk/me", What.SEE, "me password codes sign out sessions"),
)
#: What can be done to a story, by the word that one types before its name.
VERBS = re.compile(r"(open|watch|write|correct|edit|close|merge)\b(?:\s+in\b)?\s*(.*)", re.IGNORECASE)


async def jump(visit: Visit) -> Response:
    """`/desk/jump?q=…`: as JSON for the script that asks so, else as a page."""
    query = query_of(visit)
    found = await places(visit, query)
    if "application/json" in visit.request.headers.get("accept", ""):
        return JSONResponse({"places": [asdict(each) for each in found]}, headers=PRIVATE)
    return visit.page("jump.html", at="jump", query=query, places=found)


async def places(visit: Visit, query: str) -> list[Place]:
    """Where this person can go by these letters, the likeliest first: only what their role allows."""
    person = visit.person
    actions = [Place(each.title, "", each.url) for each in ACTIONS if person.may(each.needs) and _fits(each, query)]
    verb, _, name = ("", "", query)
    if asked := VERBS.fullmatch(query):
        verb, name = asked[1].lower(), asked[2]
    stories, drafts = await overview.jump(visit.here.database, query)
    found = [*_by_verb(person, verb, (await overview.jump(visit.here.database, name))[0])] if verb else []
    for place, story in enumerate(stories):
        found += _story(person, story) if place == 0 and query else [_open(story)]
    found += [_draft(each) for each in drafts]
    return (found + actions if query else actions[:5] + found)[:MOST]


def _fits(action: _Action, query: str) -> bool:
    """Whether every word of the query begins one of the action's."""
    words = f"{action.title} {action.words}".lower().split()
    return all(any(word.startswith(part) for word in words) for part in query.lower().split())


def _story(person: Person, story: FoundStory) -> list[Place]:
    """Everything that this person can do to a story."""
    return [
        _open(story),
        *(place for verb in ("watch", "write", "correct") for place in _by_verb(person, verb, [story])),
    ]


def _open(story: FoundStory) -> Place:
    about = "Story" if story.state is StoryState.DEVELOPING else "Closed story"
    return Place(story.headline, about, f"/desk/stories/{story.slug}", serif=True)


def _by_verb(person: Person, verb: str, stories: list[FoundStory]) -> list[Place]:
    return [place for each in stories if (place := _doing(person, verb, each)) is not None]


def _doing(person: Person, verb: str, story: FoundStory) -> Place | None:
    """One thing to do to a story; None if it makes no sense there, or this person may not."""
    base, headline = f"/desk/stories/{story.slug}", story.headline
    is_open = story.state is StoryState.DEVELOPING
    last, going = story.updates, story.sending_seq
    if verb == "open":
        return _open(story)
    if verb == "watch" and (going or last):
        seq = going or last
        title = f"Watch update {seq} go out" if going else f"See what became of update {seq}"
        return Place(title, headline, f"{base}/updates/{seq}")
    if verb == "write" and is_open and person.may(What.WRITE):
        return Place(f"Write update {last + 1}", headline, f"{base}/write", post=True)
    if verb == "correct" and last and person.may(What.STEER):
        return Place(f"Correct update {last}", headline, f"{base}/updates/{last}?ask=correct#correct")
    if verb in {"edit", "close", "merge"} and person.may(What.SEND) and (is_open or verb == "edit"):
        return Place(f"{verb.title()} the story", headline, f"{base}/{verb}")
    return None


def _draft(draft: FoundDraft) -> Place:
    return Place(
        draft.headline or "Draft without a headline",
        f"{STATES[draft.state][0]}, {draft.story}",
        f"/desk/drafts/{draft.id}",
        serif=bool(draft.headline),
    )
