"""Links that mails carry are keys: too long to guess, good for one purpose, and all bad ones are alike (S6)."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import timedelta

import httpx2
import pytest

from dispatcher.tokens import ConfirmTokens, Links, leave_links, manage_links
from tests.api.serving import SECRET, Site
from tests.security.house import median_ms, timed
from tests.support.push_service import CREATED, Device

HASH = bytes(range(16))
BROWSER = Device("https://updates.push.services.mozilla.com/wpush/v2/abc", lambda _: CREATED)


def without_date(answer: httpx2.Response) -> tuple[int, tuple[tuple[str, str], ...], bytes]:
    return answer.status_code, tuple(sorted((k, v) for k, v in answer.headers.items() if k != "date")), answer.content


@pytest.fixture
def path(site: Site) -> str:
    """A confirm link that waits for its button."""
    site.create_story()
    site.follow()
    return site.confirm_path()


def test_a_confirm_token_has_192_bits_and_no_two_are_alike() -> None:
    tokens = ConfirmTokens(SECRET)
    made = {tokens.make(number, HASH, 1) for number in range(1_000)}
    made |= {tokens.make(1, HASH, story) for story in range(2, 1_000)}
    made |= {tokens.make(1, number.to_bytes(16, "big"), 1) for number in range(1_000)}

    assert len(made) == 2_998
    assert {len(base64.urlsafe_b64decode(token)) * 8 for token in made} == {192}


def test_it_is_good_for_48_hours_and_kept_as_a_hash(site: Site, path: str) -> None:
    [(created, expires, kept)] = site.look("SELECT created_at, expires_at, confirmations::text FROM confirmations")

    assert timedelta(hours=48) <= expires - created < timedelta(hours=48, seconds=1)
    assert path.rpartition("/")[2] not in kept
    site.look("UPDATE confirmations SET expires_at = clock_timestamp() + interval '1 minute'")
    assert site.get(path).status_code == 200
    site.look("UPDATE confirmations SET expires_at = clock_timestamp()")
    assert (site.get(path).status_code, site.post(path).status_code) == (404, 404)


def test_every_single_altered_bit_is_a_page_that_is_not_there(site: Site, path: str) -> None:
    token = base64.urlsafe_b64decode(path.rpartition("/")[2])
    with site.browser() as browser:
        for bit in range(192):
            altered = bytearray(token)
            altered[bit // 8] ^= 1 << bit % 8
            address = "/confirm/" + base64.urlsafe_b64encode(altered).decode()
            answer = browser.get(address) if bit % 2 else browser.post(address)
            assert answer.status_code == 404, bit

    assert site.look("SELECT count(*) FROM subscribers") == [(0,)]
    assert site.post(path).status_code == 303
    assert site.post(path).status_code == 404


#: Makes one bad token after another, of one kind.
Bad = Callable[[Site, int], str]


def forged(site: Site, number: int) -> str:
    return ConfirmTokens("another secret, just as long").make(number, HASH, 1)


def one_of_many(state: str) -> Bad:
    """A token that was good once."""

    def made(site: Site, number: int) -> str:
        site.look(
            "INSERT INTO confirmations (token_hash, email, address_hash, story_id, cadence, catch_up, locale, timezone,"
            f" expires_at, used_at) SELECT sha256(%s), 'a@mail.example', %s, id, 'every', false, 'en', 'UTC', {state}"
            " FROM stories",
            *(f"{state}-{number}".rjust(32).encode(), HASH),
        )
        return f"{state}-{number}".rjust(32)

    return made


def test_all_bad_links_have_one_answer_and_take_one_time(site: Site, path: str) -> None:
    """S6, S7: expired, used, forged and cut off, sixty times each; medians at most 5 ms apart."""
    kinds: dict[str, Bad] = {
        "forged": forged,
        "expired": one_of_many("now(), NULL"),
        "used": one_of_many("now() + interval '1 hour', now()"),
        "cut off": lambda site, number: forged(site, number)[: number % 32 or 1],
        "long": lambda site, number: forged(site, number) * 20,
    }
    tokens = {kind: [make(site, number) for number in range(60)] for kind, make in kinds.items()}
    times: dict[str, list[float]] = {kind: [] for kind in kinds}
    answers = set()
    with site.browser() as browser:
        for number in range(60):
            for kind in kinds:
                address = f"/confirm/{tokens[kind][number]}"
                times[kind].append(timed(lambda address=address: answers.add(without_date(browser.post(address)))))  # type: ignore[misc]
    medians = {kind: round(median_ms(each), 2) for kind, each in times.items()}
    print(f"S6: medians in ms {medians}")

    assert len(answers) == 1
    assert answers.pop()[0] == 404
    assert max(medians.values()) - min(medians.values()) < 5


def test_a_link_for_one_purpose_opens_nothing_else(site: Site, path: str) -> None:
    slug, confirm = "tarrow-flood", path.rpartition("/")[2]
    reader = site.add_reader(slug)
    leave, manage = site.leave_path(reader, slug).rpartition("/")[2], site.manage_path(reader).rpartition("/")[2]
    everything = site.leave_path(reader).rpartition("/")[2]
    doors = ("/u/{}", "/manage/{}", "/manage/{}/erase", "/confirm/{}")
    fits = {("/u/{}", leave), ("/u/{}", everything), ("/manage/{}", manage), ("/manage/{}/erase", manage)}
    for token in (leave, everything, manage, confirm):
        for door in doors:
            if (door, token) not in fits | {("/confirm/{}", confirm)}:
                answers = [site.get(door.format(token)), site.post(door.format(token), {"do": "stop-all"})]
                assert [answer.status_code for answer in answers] == [404, 404], door
        if token != manage:
            assert site.push("/push/follow", {"manage": token, "subscription": BROWSER.subscription}).status_code == 404

    assert site.follows(reader) == {slug}
    assert site.look("SELECT count(*) FROM devices") == [(0,)]
    assert site.push("/push/follow", {"manage": manage, "subscription": BROWSER.subscription}).status_code == 200


@pytest.mark.parametrize("make", [leave_links, manage_links])
def test_no_altered_bit_of_a_signed_link_is_read(make: Callable[[str], Links]) -> None:
    links = make(SECRET)
    token = base64.urlsafe_b64decode(links.make(7, 4711))
    for bit in range(len(token) * 8):
        altered = bytearray(token)
        altered[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Exception, match="not valid"):
            links.read(base64.urlsafe_b64encode(altered).decode())
    assert links.read(base64.urlsafe_b64encode(token).decode()) == (7, 4711)
    assert re.fullmatch(r"[\w-]{32}", links.make(7, 4711))
