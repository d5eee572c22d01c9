"""The pages of the desk over a big newsroom's tables: how long each takes, and what somebody who watches costs."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlencode

import psycopg

from dispatcher import audience, db, people
from dispatcher.model import Importance, Kind
from dispatcher.roles import Role
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import Installation, installation
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import own_sink

STORIES = 10_000
GETS = 30
#: Milliseconds of server time that a page, the audience and a preview may take.
PAGE_TARGET = 100.0
AUDIENCE_TARGET = 300.0
PREVIEW_TARGET = 150.0
#: Per cent of a core that one more viewer of a running blast may cost.
VIEWER_TARGET = 1.0
VIEWERS = 10
SECONDS = 15.0
PASSWORD = "four words in a row"
EMAIL = "ada@courier.example"
BIG = "story-1"

#: What a big newsroom has after years: one story that everybody follows and thousands that few do, three updates of
#: each, and a ledger whose states are mixed as they are in life. Of the big story's last update two thirds have one.
TABLES = """
INSERT INTO stories (slug, headline, created_at)
SELECT 'story-' || n, 'The river rises in district ' || n, now() - (10001 - n) * interval '1 hour'
FROM generate_series(1, %(stories)s) n;
UPDATE stories SET state = 'closed', closed_at = now() WHERE id %% 3 = 0;
INSERT INTO subscribers (email, address_hash, timezone, paused_until, quiet_from, quiet_to)
SELECT 'reader' || n || '@mail' || n %% 50 || '.example', decode(md5(n::text), 'hex'),
       (ARRAY['Europe/Kyiv', 'Europe/London', 'America/New_York', 'Asia/Tokyo'])[1 + n %% 4],
       CASE WHEN n %% 50 = 0 THEN now() + interval '3 days' END,
       CASE WHEN n %% 2 = 0 THEN time '23:00' END, CASE WHEN n %% 2 = 0 THEN time '07:00' END
FROM generate_series(1, %(readers)s) n;
INSERT INTO devices (subscriber_id, endpoint, endpoint_hash, public_key, auth_secret)
SELECT id, 'https://push.example/' || id, decode(md5('device' || id), 'hex'),
       decode(repeat('04', 65), 'hex'), decode(repeat('00', 16), 'hex')
FROM subscribers WHERE id %% 5 = 0;
INSERT INTO suppressions (address_hash, reason)
SELECT address_hash, 'no such address (550)' FROM subscribers WHERE id %% 200 = 7;
INSERT INTO subscriptions (story_id, subscriber_id, channels, confirmed_at, cadence)
SELECT 1, id, CASE WHEN id %% 5 = 0 THEN '{email,webpush}' ELSE '{email}' END::channel[], now() - interval '30 days',
       CASE WHEN id %% 20 = 0 THEN 'daily' ELSE 'every' END::cadence
FROM subscribers ORDER BY id;
INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at)
SELECT 2 + floor((%(stories)s - 2) * power(random(), 3))::bigint, id, now() - interval '20 days' FROM subscribers;
INSERT INTO updates (story_id, seq, kind, importance, headline, summary, body, content_hash, published_by, published_at)
SELECT s.id, n, 'update', 'major', 'Levee ' || n || ' of district ' || s.id || ' holds for now', 'Walk uphill.',
       repeat('- The water stands at 6.12 metres, the crisis room says.' || chr(10), 8), '', 'bench',
       now() - (4 - n) * interval '20 minutes' - (10001 - s.id) * interval '1 minute'
FROM stories s, generate_series(1, 3) n;
UPDATE updates SET published_at = now() - interval '2 minutes' WHERE story_id = 1 AND seq = 3;
INSERT INTO blasts (update_id, channel, urgency, state, candidates, frozen_at, done_at)
SELECT u.id, 'email', 20, 'done', 30, u.published_at, u.published_at FROM updates u ORDER BY u.id;
UPDATE blasts SET candidates = %(readers)s WHERE update_id IN (SELECT id FROM updates WHERE story_id = 1);
UPDATE blasts SET state = 'sending', done_at = NULL
WHERE update_id = (SELECT id FROM updates WHERE story_id = 1 AND seq = 3);
INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, attempts, code, relay, reply)
SELECT b.id, 1 + (b.id * 7919 + n * 104729) %% %(readers)s,
       b.created_at, s.state, 1, CASE s.state WHEN 'failed' THEN 550 WHEN 'deferred' THEN 451 ELSE 250 END, 'relay-a',
       CASE s.state WHEN 'failed' THEN '550 5.1.1 no such user' WHEN 'deferred' THEN '452 4.2.2 full' ELSE '' END
FROM blasts b, generate_series(1, 30) n,
     LATERAL (SELECT CASE (b.id + n * 3) %% 10 WHEN 0 THEN 'failed' WHEN 1 THEN 'capped'
                     ELSE 'accepted' END::delivery_state AS state) s
WHERE b.candidates = 30 ON CONFLICT DO NOTHING;
INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, attempts, code, relay, reply)
SELECT b.id, r.id, u.published_at + (0.1 + r.id * 100.0 / %(readers)s) * interval '1 second', s.state, 1,
       CASE s.state WHEN 'failed' THEN 550 WHEN 'deferred' THEN 451 ELSE 250 END, 'relay-' || (r.id %% 2),
       CASE s.state WHEN 'failed' THEN '550 5.1.1 no such user' WHEN 'deferred' THEN '452 4.2.2 full' ELSE '' END
FROM updates u JOIN blasts b ON b.update_id = u.id, subscribers r,
     LATERAL (SELECT CASE r.id %% 50 WHEN 3 THEN 'failed' WHEN 4 THEN 'deferred' WHEN 5 THEN 'capped'
                     ELSE 'accepted' END::delivery_state AS state) s
WHERE u.story_id = 1 AND u.seq >= 2 AND (u.seq = 2 OR r.id %% 3 > 0);
INSERT INTO batches (blast_id, urgency, subscriber_ids, not_before)
SELECT b.id, 20, array_agg(r.id), 'infinity'
FROM blasts b, subscribers r WHERE b.state = 'sending' AND r.id %% 3 = 0 GROUP BY b.id, r.id / 1500;
"""


@dataclass(frozen=True)
class Visited:
    """A page of the desk, and how long it took each time, in seconds to the last byte."""

    name: str
    times: tuple[float, ...]


def desk(plan: Plan) -> Found:
    """Fill the tables once, then ask for every page again and again over one connection."""
    readers = plan.pick(1_000_000, 20_000)
    with own_sink() as sink, installation(sink.port, web=True) as box:
        plan.note(f"filling the tables: {STORIES:,} stories, {readers:,} readers")
        ledger = asyncio.run(fill(box, readers))
        cookie = sign_in(box)
        draft = begin_draft(box, cookie)
        visited = [visit(box, cookie, name, path, plan) for name, path in pages(draft)]
        plan.note("the audience of the big story, and a preview")
        counted = asyncio.run(count(box, plan.pick(10, 3)))
        previewed = preview(box, cookie, draft)
        plan.note(f"{VIEWERS} people watch for {SECONDS:.0f} s")
        share = watching(box, cookie)
    return Found(list(_figures(readers, ledger, visited, counted, previewed, share)))


def pages(draft: int) -> list[tuple[str, str]]:
    """Every page of the desk that reads large tables."""
    story = f"/desk/stories/{BIG}"
    return [
        ("list of stories", "/desk"),
        ("search for a story", "/desk?q=district+77"),
        ("page of a story", story),
        ("live page", f"{story}/updates/3"),
        ("readers who failed", f"{story}/updates/3/readers?state=failed"),
        ("update card", f"/desk/drafts/{draft}"),
        ("list of drafts", "/desk/drafts"),
        ("subscribers", "/desk/subscribers"),
        ("a reader’s history", "/desk/subscribers/1000"),
        ("suppressions", "/desk/suppressions"),
        ("imports", "/desk/import"),
        ("health", "/desk/health"),
        ("log", "/desk/log"),
        ("jump", "/desk/jump?q=district"),
    ]


async def fill(box: Installation, readers: int) -> int:
    """Fill the tables, and add a lead to the desk. How many rows the ledger has then."""
    async with db.Database(box.settings.database_url, size=2) as database:
        token = await people.invite(database, EMAIL, Role.LEAD, by="bench")
        await people.join(
            database, box.settings.secret_key, token, name="Ada", password=PASSWORD, browser="", email=EMAIL
        )
    with psycopg.connect(box.settings.database_url, autocommit=True) as connection:
        for statement in TABLES.split(";\n"):
            if statement.strip():
                connection.execute(statement, {"stories": STORIES, "readers": readers})
        connection.execute("VACUUM ANALYZE")
        row = connection.execute("SELECT count(*) FROM deliveries").fetchone()
    assert row is not None
    return int(row[0])


def sign_in(box: Installation) -> str:
    """The cookie of somebody who is signed in."""
    with _connection(box) as connection:
        status, headers, page = _ask(connection, "/desk/sign-in")
        door = headers["set-cookie"].partition(";")[0]
        form = {"csrf": _csrf(page), "email": EMAIL, "password": PASSWORD}
        status, headers, _ = _ask(connection, "/desk/sign-in", cookie=door, form=form)
    if status != 303:
        raise RuntimeError(f"signing in: {status}")
    return headers["set-cookie"].partition(";")[0]


def begin_draft(box: Installation, cookie: str) -> int:
    """A draft of the big story, by its number."""
    with _connection(box) as connection:
        _, _, page = _ask(connection, f"/desk/stories/{BIG}", cookie=cookie)
        status, headers, _ = _ask(connection, f"/desk/stories/{BIG}/write", cookie=cookie, form={"csrf": _csrf(page)})
    if status != 303:
        raise RuntimeError(f"beginning a draft: {status}")
    return int(headers["location"].rpartition("/")[2])


def visit(box: Installation, cookie: str, name: str, path: str, plan: Plan) -> Visited:
    """Ask for a page again and again. Raises `RuntimeError` unless it is answered."""
    plan.note(f"{GETS} times {name}: {path}")
    times: list[float] = []
    with _connection(box) as connection:
        for _ in range(GETS + 1):
            began = time.perf_counter()
            status, _, _ = _ask(connection, path, cookie=cookie)
            times.append(time.perf_counter() - began)
            if status != 200:
                raise RuntimeError(f"{path}: {status}")
    return Visited(name, tuple(times[1:]))  # the first time the database plans its statements


async def count(box: Installation, times: int) -> list[float]:
    """Milliseconds for the exact audience of the big story, each time."""
    taken: list[float] = []
    async with db.Database(box.settings.database_url, size=2) as database:
        for _ in range(times):
            began = time.perf_counter()
            async with database.connection() as connection:
                found = await audience.count(connection, 1, kind=Kind.UPDATE, importance=Importance.MAJOR)
            taken.append((time.perf_counter() - began) * 1000)
    if not found:
        raise RuntimeError("nobody was counted")
    return taken


def preview(box: Installation, cookie: str, draft: int) -> Visited:
    """Write on, as the card's script does: save another word, get all that stands beside it, and the mail itself."""
    path = f"/desk/drafts/{draft}"
    times: list[float] = []
    with _connection(box) as connection:
        _, _, page = _ask(connection, path, cookie=cookie)
        form = {
            "csrf": _csrf(page),
            "version": "1",
            "kind": "update",
            "importance": "major",
            "summary": "Walk uphill now.",
            "body": "- The levee gave way at 02:44.\n" * 20,
        }
        for n in range(GETS + 1):
            began = time.perf_counter()
            status, _, body = _ask(
                connection, f"{path}/save", cookie=cookie, form={**form, "headline": f"Millgate {n}"}
            )
            saved = json.loads(body)
            shown, _, mail = _ask(connection, f"{path}/preview?view=phone&lang=en", cookie=cookie)
            times.append(time.perf_counter() - began)
            if (status, shown) != (200, 200) or f"Millgate {n}".encode() not in mail:
                raise RuntimeError(f"{path}: {status}, {shown}, {saved}")
            form["version"] = str(saved["version"])
    return Visited("preview", tuple(times[1:]))


def watching(box: Installation, cookie: str) -> float:
    """Per cent of a core that one more viewer of the running blast costs the web server and the database."""
    with changing(box):
        before = _load(box)
        with viewers(box, cookie, VIEWERS):
            during = _load(box)
    return max(during - before, 0.0) / VIEWERS


@contextmanager
def changing(box: Installation) -> Iterator[None]:
    """Somebody gets an outcome every tenth of a second, so that there is something to see."""
    ended = threading.Event()

    def change() -> None:
        with psycopg.connect(box.settings.database_url, autocommit=True) as connection:
            reader = 3
            while not ended.wait(0.1):
                connection.execute(
                    "INSERT INTO deliveries (blast_id, subscriber_id, recorded_at, state, attempts, relay)"
                    " SELECT id, %s, clock_timestamp(), 'accepted', 1, 'relay-a' FROM blasts WHERE state = 'sending'"
                    " ON CONFLICT DO NOTHING",
                    (reader,),
                )
                reader += 3

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def viewers(box: Installation, cookie: str, number: int) -> Iterator[None]:
    """So many people have the live page open. Raises `RuntimeError` if they are told nothing."""
    ended = threading.Event()
    told = [0] * number

    def watch(place: int) -> None:
        with _connection(box) as connection:
            connection.request("GET", f"/desk/stories/{BIG}/updates/3/events", headers={"Cookie": cookie})
            answer = connection.getresponse()
            while not ended.is_set() and (line := answer.readline()):
                told[place] += line.startswith(b"data:")

    threads = [threading.Thread(target=watch, args=(place,), daemon=True) for place in range(number)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(30)
    if min(told) < 2:
        raise RuntimeError(f"viewers were told {told} times")


def _load(box: Installation) -> float:
    """Per cent of a core that the web server and the database use, over a while."""
    began, before = time.monotonic(), _seconds(box)
    time.sleep(SECONDS)
    return 100 * (_seconds(box) - before) / (time.monotonic() - began)


def _seconds(box: Installation) -> float:
    return sum(use.cpu_seconds for use in box.used() if use.part in ("web", "postgres"))


@contextmanager
def _connection(box: Installation) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", box.port, timeout=30)
    try:
        yield connection
    finally:
        connection.close()


def _ask(
    connection: http.client.HTTPConnection, path: str, *, cookie: str = "", form: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    headers = {"Cookie": cookie, "Accept-Encoding": "gzip"} if form is None else {"Cookie": cookie}
    if form is None:
        connection.request("GET", path, headers={**headers, "Accept-Encoding": "identity"})
    else:
        headers |= {
            "Content-Type": "application/x-www-form-urlencoded",
            "Origin": f"http://127.0.0.1:{connection.port}",
        }
        connection.request("POST", path, body=urlencode(form), headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, body


def _csrf(page: bytes) -> str:
    found = re.search(rb'name="csrf" value="([^"]+)"', page)
    if found is None:
        raise RuntimeError("there is no form on the page")
    return found[1].decode()


def _figures(
    readers: int, ledger: int, visited: list[Visited], counted: list[float], previewed: Visited, share: float
) -> Iterator[Figure]:
    size = f"{readers:,} readers, {ledger:,} ledger rows"
    for page in visited:
        yield _time(f"{page.name}, p99 of {GETS} ({size})", page, PAGE_TARGET)
    yield Figure(
        part="desk",
        name=f"exact audience of {readers:,}",
        unit="ms",
        ours=counted,
        aim=Aim.AT_MOST,
        target=AUDIENCE_TARGET,
    )
    yield _time(f"preview, p99 of {GETS}", previewed, PREVIEW_TARGET)
    yield Figure(
        part="desk", name=f"one viewer of a running blast, of {VIEWERS}", unit="% of a core", ours=[share],
        aim=Aim.AT_MOST, target=VIEWER_TARGET,
    )  # fmt: skip


def _time(name: str, page: Visited, target: float) -> Figure:
    p99 = sorted(page.times)[int(len(page.times) * 0.99)] * 1000
    return Figure(part="desk", name=name, unit="ms", ours=[p99], aim=Aim.AT_MOST, target=target)
