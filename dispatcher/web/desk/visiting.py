"""Who visits a page of the desk, and whether they may: sessions, roles, and forms that nobody else can send.

Every page is wrapped in one of `anybody`, `with_code_missing` and `somebody`; there is no other way to make one.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from dispatcher import people
from dispatcher.errors import DispatcherError
from dispatcher.people import Person, Session, SignedIn
from dispatcher.roles import What
from dispatcher.tokens import derive
from dispatcher.web import forms
from dispatcher.web.browsers import browser_name
from dispatcher.web.forms import Sent
from dispatcher.web.front import Front, front
from dispatcher.web.guards import Forbidden, check_same_site
from dispatcher.web.readers import PRIVATE

#: How long a browser keeps the cookie; whether it still counts is for the database to say.
KEPT = 7 * 86400
#: Seconds that it keeps what a sign-in elsewhere was begun with.
ASKED_FOR = 600
#: Where a form may lead back to: a page of the desk.
_OURS = re.compile(r"/desk(/[A-Za-z0-9/_-]*)?(\?[A-Za-z0-9=&._%+-]*)?")
#: In the address of a page that is looked at again by itself.
AGAIN = "again"
_NONCE = re.compile(r"[A-Za-z0-9_-]{22}")


class NotAllowed(DispatcherError):
    """Your role does not include this."""

    status = 403
    remedy = "Ask a lead of the desk."


class SignedOut(DispatcherError):
    """You are signed out, and nothing was changed."""

    status = 403
    remedy = "Sign in again in another window, then send this form once more."


@dataclass(frozen=True, kw_only=True, slots=True)
class Visit:
    """One request to a page of the desk."""

    request: Request
    here: Front
    session: Session | None
    csrf: str  #: what every form of this page carries
    form: Sent  #: what was sent; empty for GET
    nonce: str = ""  #: of a browser at the door, to be kept in a cookie
    is_door: bool = False  #: whoever is signed in here has another token for their forms, so the head shows nobody

    @property
    def own(self) -> Session:
        """The session of whoever is here. Pages for `anybody` do not ask."""
        assert self.session is not None  # noqa: S101  # the wrapper has seen to it
        return self.session

    @property
    def person(self) -> Person:
        return self.own.person

    @property
    def is_post(self) -> bool:
        return self.request.method == "POST"

    @property
    def browser(self) -> str:
        return browser_name(self.request.headers.get("user-agent", ""))

    @property
    def secret(self) -> str:
        return self.here.settings.secret_key

    def page(self, template: str, /, *, status: int = 200, at: str = "", **values: Any) -> Response:
        """A page of `templates/web/desk`. `at` is the part of the desk that it belongs to."""
        person = None if self.session is None or self.session.is_half or self.is_door else self.session.person
        answer = self.here.page(
            self.request,
            f"desk/{template}",
            status=status,
            language="en",
            headers=PRIVATE,
            person=person,
            csrf=self.csrf,
            at=at,
            **values,
        )
        if self.nonce:
            self._set_cookie(answer, "desk-form", self.nonce, None)
        return answer

    def lead_to(self, path: str, **query: str) -> Response:
        """Lead to another page of the desk, after a form."""
        return RedirectResponse(f"{path}?{urlencode(query)}" if query else path, 303, headers=PRIVATE)

    def let_in(self, done: SignedIn, then: str) -> Response:
        """Give the browser its session, and lead on: to the page that asks for the code, where that is missing."""
        query = {"next": then} if then != "/desk" else {}
        answer = self.lead_to("/desk/code", **query) if done.needs_code else self.lead_to(then)
        self._set_cookie(answer, "desk", done.token, KEPT)
        if self.kept_ask:
            self._set_cookie(answer, "desk-oidc", "", 0)
        return answer

    def leave_for(self, url: str, ask: str) -> Response:
        """Lead to the sign-in service, and have the browser keep what it is to bring back."""
        answer = RedirectResponse(url, 303, headers=PRIVATE)
        self._set_cookie(answer, "desk-oidc", ask, ASKED_FOR)
        return answer

    @property
    def kept_ask(self) -> str:
        """What the browser has kept since `leave_for`."""
        return self.request.cookies.get(cookie_name(self.here, "desk-oidc"), "")

    def let_out(self) -> Response:
        answer = self.lead_to("/desk/sign-in", done="out")
        self._set_cookie(answer, "desk", "", 0)
        return answer

    def _set_cookie(self, answer: Response, name: str, value: str, seconds: int | None) -> None:
        answer.set_cookie(
            cookie_name(self.here, name),
            value,
            max_age=seconds,
            path="/",
            secure=_is_https(self.here),
            httponly=True,
            samesite="lax",
        )


Page = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def anybody(page: Page) -> Endpoint:
    """A page for whoever comes, such as the one where they sign in. Its forms belong to the browser that got them."""

    async def endpoint(request: Request) -> Response:
        here = front(request)
        session = await _session(request)
        nonce = request.cookies.get(cookie_name(here, "desk-form"), "")
        had_nonce = _NONCE.fullmatch(nonce) is not None
        if not had_nonce:
            nonce = secrets.token_urlsafe(16)
        csrf = _form_token(here, "visitor", nonce.encode())
        form = await _sent(request, csrf if had_nonce else None)
        given = "" if had_nonce else nonce
        return await page(
            Visit(request=request, here=here, session=session, csrf=csrf, form=form, nonce=given, is_door=True)
        )

    return endpoint


def with_code_missing(page: Page) -> Endpoint:
    """A page for somebody whose password was right, and whose code is missing."""

    async def endpoint(request: Request) -> Response:
        session = await _session(request)
        if session is None:
            return _to_sign_in(request)
        if not session.is_half:
            if request.method == "POST":
                raise Forbidden("You are signed in already.", remedy="Go on to the desk.")
            return RedirectResponse("/desk", 303, headers=PRIVATE)
        return await page(await _visit(request, session))

    return endpoint


def somebody(page: Page, what: What = What.SEE, *, by_itself: bool = False) -> Endpoint:
    """A page for those who are signed in and may do something. Others are led to sign in, or told that they may not.

    `by_itself`: pages ask for it without anybody at them, so it keeps no session from ending; nor does any page that
    asks for itself `AGAIN`.
    Raises `Forbidden` and `SignedOut` for forms that count for nothing, and `NotAllowed`.
    """

    async def endpoint(request: Request) -> Response:
        session = await _session(request, is_alive=not by_itself and AGAIN not in request.query_params)
        if session is None:
            return _to_sign_in(request)
        if session.is_half:
            if request.method == "POST":
                raise Forbidden("Your code is still missing.", remedy="Open the desk, and type it there.")
            return RedirectResponse("/desk/code", 303, headers=PRIVATE)
        visit = await _visit(request, session)
        if not session.person.may(what):
            raise NotAllowed
        return await page(visit)

    return endpoint


def cookie_name(here: Front, name: str) -> str:
    """With TLS no other host, and nobody on the way, can plant a cookie of this name (RFC 6265bis §4.1.3.2)."""
    return f"__Host-{name}" if _is_https(here) else name


def error_page(request: Request, error: DispatcherError, headers: Mapping[str, str]) -> Response:
    """An error on a page of the desk, in the words of the error itself: they are for people who work here."""
    return front(request).page(
        request,
        "desk/error.html",
        status=error.status,
        language="en",
        headers={**PRIVATE, **headers},
        person=None,
        csrf="",
        at="",
        error=error,
        is_signed_out=isinstance(error, SignedOut),
    )


def next_path(raw: str) -> str:
    """Where to go on after signing in: a page of the desk, whatever the address says."""
    return raw if _OURS.fullmatch(raw) and "//" not in raw else "/desk"


def done_word(visit: Visit, words: Mapping[str, str]) -> str:
    """What the last button did, as a sentence of ours: the address of a page can be made up by anybody."""
    return words.get(visit.request.query_params.get("done", ""), "")


async def still_in(visit: Visit, what: What) -> bool:
    """Whether whoever came is still signed in, with the same role, and may do something; asked by the page itself."""
    session = await _session(visit.request, is_alive=False)
    if session is None or session.is_half or session.person.role is not visit.person.role:
        return False
    return session.person.id == visit.person.id and session.person.may(what)


async def _session(request: Request, *, is_alive: bool = True) -> Session | None:
    here = front(request)
    token = request.cookies.get(cookie_name(here, "desk"), "")
    return await people.session(here.database, token, is_alive=is_alive) if token else None


async def _visit(request: Request, session: Session) -> Visit:
    here = front(request)
    csrf = _form_token(here, "session", session.token_hash)
    return Visit(request=request, here=here, session=session, csrf=csrf, form=await _sent(request, csrf))


def uploader(page: Page, what: What) -> Endpoint:
    """A page like those of `somebody`, whose form brings a file: nothing of it is read for those who may not."""

    async def endpoint(request: Request) -> Response:
        session = await _session(request)
        if request.method != "POST" or session is None or session.is_half:
            return await somebody(page, what)(request)
        if not session.person.may(what):
            raise NotAllowed
        check_same_site(request, front(request).settings.public_url)
        form = await forms.read_upload(request)
        try:
            csrf = _form_token(front(request), "session", session.token_hash)
            _check_token(form, csrf)
            return await page(Visit(request=request, here=front(request), session=session, csrf=csrf, form=form))
        finally:
            if form.file is not None:
                await form.file.close()

    return endpoint


async def _sent(request: Request, csrf: str | None) -> Sent:
    """The form of a POST, if it is one of ours, for this visitor. Raises `Forbidden`, `Invalid`."""
    if request.method != "POST":
        return Sent()
    check_same_site(request, front(request).settings.public_url)
    form = await forms.read(request)
    _check_token(form, csrf)
    return form


def _check_token(form: Sent, csrf: str | None) -> None:
    if csrf is None or not hmac.compare_digest(form.get("csrf").encode(errors="replace"), csrf.encode()):
        raise Forbidden("This form does not belong to you.", remedy="Open the page again, and press the button there.")


def _to_sign_in(request: Request) -> Response:
    _refuse_post(request)
    then = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    query = f"?{urlencode({'next': then})}" if next_path(then) not in {"/desk", "/desk/code"} else ""
    return RedirectResponse(f"/desk/sign-in{query}", 303, headers=PRIVATE)


def _refuse_post(request: Request) -> None:
    if request.method == "POST":
        check_same_site(request, front(request).settings.public_url)
        raise SignedOut


def _form_token(here: Front, kind: str, bound_to: bytes) -> str:
    key = derive(here.settings.secret_key, f"desk-form:{kind}")
    return hashlib.blake2b(bound_to, key=key, digest_size=24).hexdigest()


def _is_https(here: Front) -> bool:
    return here.settings.public_url.startswith("https://")
