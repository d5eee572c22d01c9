"""Hands for the desk: people with passwords, and browsers that keep cookies and send forms as pages give them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape

import httpx2
import pyotp
from argon2 import PasswordHasher, Type

from dispatcher import db, people
from dispatcher.people.inviting import add_person
from dispatcher.people.sessions import begin, person_from
from dispatcher.roles import Role
from tests.api.serving import Site, at_once

PASSWORD = "four words in a row"
#: What is kept of it: the very thing, but not worth any effort. `people.join` takes a fifth of a second, as it should.
KEPT = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=Type.ID).hash(PASSWORD)
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@dataclass
class Tab:
    """A browser at the desk. It follows no redirects."""

    client: httpx2.Client

    def get(self, path: str) -> httpx2.Response:
        return self.client.get(path)

    def csrf(self, path: str) -> str:
        """What the forms of a page carry."""
        return field_of(self.get(path).text, "csrf")

    def submit(self, path: str, *, page: str = "", **fields: str) -> httpx2.Response:
        """Open a page and send a form of it."""
        return self.client.post(path, data={"csrf": self.csrf(page or path), **fields})

    def sign_in(self, email: str, password: str = PASSWORD) -> httpx2.Response:
        return self.submit("/desk/sign-in", email=email, password=password)

    def is_in(self) -> bool:
        return self.get("/desk").status_code == 200


@contextmanager
def tab(site: Site, email: str = "", *, user_agent: str = FIREFOX) -> Iterator[Tab]:
    """A new browser, in which somebody is signed in if their address is given."""
    with site.browser(**{"User-Agent": user_agent}) as client:
        opened = Tab(client)
        if email:
            answer = opened.sign_in(email)
            assert (answer.status_code, answer.headers["location"]) == (303, "/desk")
        yield opened


def invite(site: Site, email: str, role: Role = Role.LEAD) -> str:
    """The path of a link to join."""

    async def work() -> str:
        async with db.Database(site.settings.database_url) as database:
            return await people.invite(database, email, role, by="cli:test")

    return f"/desk/invitation/{at_once(work())}"


def first_link(site: Site) -> str:
    """The path of the link that makes the first lead. There is none yet."""

    async def work() -> str | None:
        async with db.Database(site.settings.database_url) as database:
            return await people.first_link(database)

    token = at_once(work())
    assert token is not None
    return f"/desk/setup/{token}"


def employ(site: Site, email: str = "ada@courier.example", role: Role = Role.LEAD) -> str:
    """Somebody at the desk, with a password that is cheap to check; returns the address."""

    async def work() -> None:
        async with db.Database(site.settings.database_url) as database:
            token = await people.invite(database, email, role, by="cli:test")
            async with database.transaction() as tx:
                await tx.one("use_invitation", token_hash=people.token_hash(token))
                name = email.partition("@")[0].title()
                person_id = await add_person(tx, email, name, role, KEPT, "cli:test")
                person = person_from(await tx.one("find_person", person_id=person_id) or {})
                done = await begin(tx, person, "", half=False)
            found = await people.session(database, done.token)
            assert found is not None
            await people.sign_out(database, found.person, found.token_hash)

    at_once(work())
    return email


def turn_codes_on(opened: Tab) -> tuple[pyotp.TOTP, list[str]]:
    """Turn codes on by the page, as an app would; the recovery codes too. The code of now is used up."""
    page = opened.get("/desk/me/codes").text
    key = re.search(r'class="key">([A-Z2-7 ]+)<', page)
    assert key is not None
    totp = pyotp.TOTP(key[1].replace(" ", ""))
    answer = opened.client.post(
        "/desk/me/codes",
        data={
            "csrf": field_of(page, "csrf"),
            "sealed": field_of(page, "sealed"),
            "code": totp.now(),
            "current": PASSWORD,
        },
    )
    assert answer.status_code == 200, answer.text
    return totp, re.findall(r"<li><code>([^<]+)</code>", answer.text)


def field_of(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, page
    return unescape(found[1])
