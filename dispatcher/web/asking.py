"""The forms that anybody may send: follow a story, and ask for a lost link. Their answer is the same for every address.

A form decides nothing: it leaves an ask, and whoever reads the mail of that address learns the rest.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import following
from dispatcher.errors import Invalid, NotFound
from dispatcher.following import StoryEnded
from dispatcher.web import embedding, forms
from dispatcher.web.admitting import hindrance
from dispatcher.web.forms import Form, Sent
from dispatcher.web.front import front
from dispatcher.web.guards import check_same_site
from dispatcher.web.reading import find, story_again

#: Seconds after which whoever asked too often may ask again.
AN_HOUR = "3600"


async def follow(request: Request) -> Response:
    """`POST /s/{slug}/follow`: leave an ask, and lead to the page that says what happens now.

    A field that is wrong brings the form back with 422, too many asks with 429, a closed story with 409 and the form
    of the story that goes on. Raises `Forbidden`, `NotFound`, and `Invalid` for what no form of ours sends.
    """
    here = front(request)
    slug = request.path_params["slug"]
    check_same_site(request, here.settings.public_url, here.settings.embed_origins)
    sent = await forms.read(request)
    again = await _leave_ask(request, slug, sent)
    if isinstance(again, Response):
        return again
    if again is not None:
        return await _form_again(request, slug, sent, again)
    if sent.get("embedded"):
        return RedirectResponse(f"/embed/{slug}?asked=1", 303)
    return RedirectResponse(f"/s/{slug}/asked", 303)


async def asked(request: Request) -> Response:
    """`/s/{slug}/asked`: what to do now, for everybody who asked."""
    return _asked(request, await find(request))


async def lost(request: Request) -> Response:
    """`/lost`: ask for the link to one's own page by mail."""
    here = front(request)
    if request.method == "GET":
        return here.public_page(request, "lost.html", changed=None, form=Form())
    check_same_site(request, here.settings.public_url)
    sent = await forms.read(request)
    again = None
    if not sent.is_machine:
        again = await hindrance(here, request, sent, "lost")
    if again is None and not sent.is_machine:
        try:
            await following.ask_for_link(
                here.database,
                here.settings.secret_key,
                email=sent.get("email"),
                locale=here.language(request),
                timezone=sent.get("timezone"),
            )
        except Invalid as error:
            again = _to_correct(sent, error)
    if again is not None:
        return here.page(request, "lost.html", status=_status(again), headers=_headers(again), form=again)
    return RedirectResponse("/lost/asked", 303)


async def lost_asked(request: Request) -> Response:
    """`/lost/asked`: what to do now, for everybody who asked."""
    return _asked(request, None)


async def _leave_ask(request: Request, slug: str, sent: Sent) -> Form | Response | None:
    """Leave the ask. Returns the form if something is wrong with it, or the answer for a story that takes no more."""
    here = front(request)
    cadence = sent.cadence
    if sent.is_machine:
        await find(request, slug)
        return None
    if again := await hindrance(here, request, sent, slug):
        return again
    try:
        await following.ask_to_follow(
            here.database,
            here.settings.secret_key,
            slug,
            email=sent.get("email"),
            cadence=cadence,
            catch_up=bool(sent.get("catch_up")),
            locale=here.language(request),
            timezone=sent.get("timezone"),
            device_subscriber_id=_device(request, sent),
        )
    except Invalid as error:
        return _to_correct(sent, error)
    except StoryEnded:
        return await _form_again(request, slug, sent, sent.again(), status=409)
    except NotFound as error:
        raise NotFound(
            "There is no such story here.", remedy="Look for it among all stories.", field="story"
        ) from error
    return None


def _device(request: Request, sent: Sent) -> int | None:
    """The browser that follows by itself already, by the token of its own page."""
    token = sent.get("device")
    return front(request).managing.read(token)[1] if token else None


def _to_correct(sent: Sent, error: Invalid) -> Form:
    if error.field != "email":
        raise error
    return sent.again(problem="email")


async def _form_again(request: Request, slug: str, sent: Sent, form: Form, *, status: int | None = None) -> Response:
    show = embedding.form_again if sent.get("embedded") else story_again
    return await show(request, slug, form, status or _status(form), **_headers(form))


def _status(form: Form) -> int:
    return 422 if form.problem == "email" else 429


def _headers(form: Form) -> dict[str, str]:
    return {"Retry-After": AN_HOUR} if form.problem == "too-many" else {}


def _asked(request: Request, story: object) -> Response:
    here = front(request)
    sender = here.settings.mail_from
    return here.public_page(
        request, "asked.html", changed=None, story=story, sender=f"{sender.display_name} ({sender.addr_spec})".strip()
    )
