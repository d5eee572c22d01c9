"""Browsers that follow: what our own script and service worker say to us, as JSON, and the files that they need."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dispatcher import following, subscribing
from dispatcher.channels.webpush.services import check_endpoint, parse_keys
from dispatcher.errors import Invalid, NotFound, TooMany
from dispatcher.following import NewDevice
from dispatcher.model import Cadence, ChannelName
from dispatcher.subscribing import Followed
from dispatcher.web.admitting import sender, work
from dispatcher.web.browsers import browser_name
from dispatcher.web.front import Front, front
from dispatcher.web.guards import json_from_us
from dispatcher.web.readers import reader_or_none

#: What a puzzle is good for here; no story is called so.
PURPOSE = "push/follow"
#: Nobody writes longer words than these.
LONGEST = 2100


async def key(request: Request) -> Response:
    """`/push/key`: the public key that a browser subscribes to (RFC 8292 §3.2)."""
    found = await front(request).vapid.public_key()
    return JSONResponse({"key": found}, headers={"Cache-Control": "public, max-age=300"})


async def follow(request: Request) -> Response:
    """`POST /push/follow`: a browser follows a story; with a reader's own link, all that this reader follows.

    Answers with the path of the reader's page, if this browser is all that there is of the reader, or brought the link.
    In a flood it answers 429 with a `puzzle`: the same with that and its `answer` is heard.
    """
    here = front(request)
    body = await json_from_us(request, here.settings.public_url)
    device = _device(here, request, body.get("subscription"))
    if not await here.limiter.allow_client(sender(here, request)):
        raise TooMany("That was asked too often from this network.", remedy="Try again in an hour.")
    if puzzle := await work(here, PURPOSE, _text(body, "puzzle"), _text(body, "answer")):
        return JSONResponse({"puzzle": puzzle}, 429)
    token = _text(body, "manage")
    language, timezone = here.language(request), _text(body, "timezone")
    if token:
        _, subscriber_id = here.managing.read(token)
        for each in await _followed(here, subscriber_id):
            await following.follow_in_browser(
                *(here.database, each.story.slug, device),
                cadence=each.cadence,
                locale=language,
                timezone=timezone,
                subscriber_id=subscriber_id,
            )
    else:
        subscriber_id = await following.follow_in_browser(
            *(here.database, _text(body, "story"), device),
            cadence=_cadence(body),
            locale=language,
            timezone=timezone,
        )
    return JSONResponse({"manage": await _own_page(here, request, subscriber_id, token)})


async def state(request: Request) -> Response:
    """`POST /push/state`: whether the browser that asks follows a story; changes nothing."""
    here = front(request)
    body = await json_from_us(request, here.settings.public_url)
    subscriber_id = await _reader_of(here, body)
    if subscriber_id is None:
        return JSONResponse({"on": False, "manage": ""})
    found = await _by_push(here, subscriber_id, _text(body, "story"))
    return JSONResponse({"on": bool(found), "manage": await _own_page(here, request, subscriber_id, "")})


async def stop(request: Request) -> Response:
    """`POST /push/stop`: alert this browser's reader about a story by push no more; by mail all stays as it is."""
    here = front(request)
    body = await json_from_us(request, here.settings.public_url)
    subscriber_id = await _reader_of(here, body)
    if subscriber_id is not None:
        for each in await _by_push(here, subscriber_id, _text(body, "story")):
            others = each.channels - {ChannelName.WEBPUSH}
            if others:
                await subscribing.set_channels(here.database, each.story.id, subscriber_id, others)
            else:
                await subscribing.leave(here.database, each.story.id, subscriber_id)
    return JSONResponse({"on": False})


async def renew(request: Request) -> Response:
    """`POST /push/renew`: the push service gave a browser a new address; its old secret proves that it is the same."""
    here = front(request)
    body = await json_from_us(request, here.settings.public_url)
    old = _object(body.get("old"), "old")
    _, secret = parse_keys(*_keys(old))
    device = _device(here, request, body.get("subscription"))
    await following.renew_device(here.database, _text(old, "endpoint"), secret, device)
    return JSONResponse({"renewed": True})


async def worker(request: Request) -> Response:
    """`/sw.js`: the service worker for the whole site, asked for anew each time that it may have changed."""
    content = front(request).assets.content("sw.js")
    headers = {"Cache-Control": "no-cache", "Service-Worker-Allowed": "/"}
    return Response(content, headers=headers, media_type="text/javascript; charset=utf-8")


async def manifest(request: Request) -> Response:
    """`/manifest.webmanifest`: lets phones put the pages on the home screen, which iOS needs before it shows pushes."""
    here = front(request)
    document = {
        "name": here.settings.newsroom.name,
        "short_name": here.settings.newsroom.name[:30],
        "lang": here.settings.newsroom.language,
        "id": "/",
        "start_url": "/",
        "scope": "/",
        "display": "standalone",
        "background_color": "#f6f5f1",
        "theme_color": "#ffffff",
        "icons": [
            {"src": here.assets.url("icon-192.png"), "sizes": "192x192", "type": "image/png"},
            {"src": here.assets.url("icon.svg"), "sizes": "any", "type": "image/svg+xml"},
        ],
    }
    return Response(
        json.dumps(document, ensure_ascii=False).encode(),
        headers={"Cache-Control": "public, max-age=3600"},
        media_type="application/manifest+json",
    )


async def _followed(here: Front, subscriber_id: int) -> list[Followed]:
    """The developing stories that a reader follows. Raises `NotFound` if there is none to be alerted about."""
    found = await subscribing.followed(here.database, subscriber_id)
    going_on = [each for each in found if each.ended_at is None and each.story.closed_at is None]
    if not going_on:
        raise NotFound("There is no story to be alerted about.", remedy="Follow a story first.", field="story")
    return going_on


async def _by_push(here: Front, subscriber_id: int, slug: str) -> list[Followed]:
    """The story, if this reader follows it by push; without a slug every story that they follow so."""
    return [
        each
        for each in await subscribing.followed(here.database, subscriber_id)
        if each.ended_at is None and ChannelName.WEBPUSH in each.channels and slug in ("", each.story.slug)
    ]


async def _own_page(here: Front, request: Request, subscriber_id: int, token: str) -> str:
    """The path of the reader's page; empty for a reader with an address: a browser alone does not open that page."""
    if token:
        return f"/manage/{token}"
    reader = await reader_or_none(request, subscriber_id)
    alone = reader is not None and reader.email is None
    return f"/manage/{here.managing.make(0, subscriber_id)}" if alone else ""


async def _reader_of(here: Front, body: Mapping[str, Any]) -> int | None:
    subscription = _object(body.get("subscription"), "subscription")
    _, secret = parse_keys(*_keys(subscription))
    return await following.browser_reader(here.database, _text(subscription, "endpoint"), secret)


def _device(here: Front, request: Request, given: object) -> NewDevice:
    """A browser's `PushSubscription` as JSON (Push API §8.3). Raises `Invalid`, naming what is wrong."""
    subscription = _object(given, "subscription")
    endpoint = _text(subscription, "endpoint")
    check_endpoint(endpoint, here.settings.push_services)
    public_key, secret = parse_keys(*_keys(subscription))
    name = browser_name(request.headers.get("user-agent", ""))
    return NewDevice(endpoint=endpoint, public_key=public_key, auth_secret=secret, name=name)


def _keys(subscription: Mapping[str, Any]) -> tuple[str, str]:
    keys = _object(subscription.get("keys"), "keys")
    return _text(keys, "p256dh"), _text(keys, "auth")


def _cadence(body: Mapping[str, Any]) -> Cadence:
    try:
        return Cadence(_text(body, "cadence") or Cadence.EVERY)
    except ValueError as error:
        raise Invalid("There is no such cadence.", remedy=f"One of {', '.join(Cadence)}.", field="cadence") from error


def _object(given: object, name: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise Invalid(f"{name} is no object.", remedy="Send what the browser gives as it is.", field=name)
    return given


def _text(given: Mapping[str, Any], name: str) -> str:
    """A text of a JSON object; empty if it is not there. Raises `Invalid` for anything else, and for a long one."""
    found = given.get(name) or ""
    if not isinstance(found, str) or len(found) > LONGEST or "\0" in found:
        raise Invalid(f"{name} is no text, or too long.", remedy="Send what the browser gives as it is.", field=name)
    return found
