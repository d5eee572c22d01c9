"""Links of a draft are asked for in the background, once each, and what is said of them is true."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from dispatcher.outbound import Outbound
from dispatcher.web.desk import writing_links
from dispatcher.web.desk.writing_links import Link, LinkChecker, links_of

ASKED: Counter[str] = Counter()


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """A web server with pages of every kind."""
    ASKED.clear()
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", _answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def _answer(request: web.Request) -> web.Response:
    ASKED[request.path] += 1
    match request.path:
        case "/slow":
            await asyncio.sleep(0.3)
        case "/silent":
            await asyncio.sleep(30)
        case "/moved":
            raise web.HTTPMovedPermanently("/here")
        case "/round":
            raise web.HTTPFound("/round")
        case "/away":
            raise web.HTTPFound("https://169.254.169.254/latest")
        case "/gone" | "/error" | "/closed" as path:
            return web.Response(status={"/gone": 404, "/error": 503, "/closed": 403}[path])
    return web.Response(text="yes")


async def known(checker: LinkChecker, urls: list[str]) -> dict[str, Link]:
    """What is known of links once all have answered."""
    async with asyncio.timeout(10):
        found = checker.look(urls)
        while any(each.state == "checking" for each in found):
            await asyncio.sleep(0.01)
            found = checker.look(urls)
    return {each.url.rpartition("/")[2]: each for each in found}


async def test_each_answer_is_told_as_it_is_and_nobody_is_asked_twice(
    origin: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing_links, "SLOW", 0.25)
    checker = LinkChecker(Outbound(trusted=[origin]))
    pages = ("here", "slow", "moved", "round", "away", "gone", "error", "closed")
    urls = [*(f"{origin}/{page}" for page in pages), "https://127.0.0.1/private", "http://127.0.0.1:1/plain"]
    try:
        assert {each.state for each in checker.look(urls)} == {"checking"}
        found = await known(checker, urls)
        assert {name: each.state for name, each in found.items()} == {
            "here": "ok",
            "slow": "slow",
            "moved": "ok",
            "round": "unsure",
            "away": "unsure",
            "gone": "gone",
            "error": "broken",
            "closed": "unsure",
            "private": "unsure",
            "plain": "unsure",
        }
        assert "redirects again and again" in found["round"].words
        assert "not on the public internet" in found["away"].words
        assert "404" in found["gone"].words
        before = ASKED.copy()
        await known(checker, urls)
        assert before == ASKED
        assert ASKED["/gone"] == 1
    finally:
        await checker.close()


async def test_a_host_that_is_silent_holds_up_nothing_and_is_let_go_of_at_the_end(origin: str) -> None:
    checker = LinkChecker(Outbound(trusted=[origin]))
    began = asyncio.get_running_loop().time()
    checker.look([f"{origin}/silent?{number}" for number in range(20)])
    async with asyncio.timeout(20):
        while ASKED["/silent"] < writing_links.AT_ONCE:
            await asyncio.sleep(0.01)
    assert checker.look([f"{origin}/silent?0"])[0].state == "checking"
    await checker.close()
    assert asyncio.get_running_loop().time() - began < 5
    assert ASKED["/silent"] == writing_links.AT_ONCE


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("[a](https://a.example/x_(y)) and https://b.example/c.", ["https://a.example/x_(y)", "https://b.example/c"]),
        ("<https://a.example> **https://a.example**", ["https://a.example"]),
        ("javascript:alert(1) mailto:a@b.example ftp://c.example https://", []),
        ("https://[nowhere https://ok.example", ["https://ok.example"]),
        (" ".join(f"https://{n}.example" for n in range(99)), [f"https://{n}.example" for n in range(20)]),
        (f"https://a.example/{'x' * 3000}", []),
    ],
)
def test_the_links_of_a_text_are_found(text: str, links: list[str]) -> None:
    assert links_of(text) == links
