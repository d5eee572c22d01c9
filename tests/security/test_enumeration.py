"""No form tells whether an address is known: not by its words, its headers or the time it takes (S7)."""

from __future__ import annotations

import pytest

from dispatcher.addresses import address_hash, parse_address
from tests.api.serving import SECRET, Site
from tests.security.house import median_ms, timed
from tests.security.test_links import without_date

ASKED = 200
KNOWN, SUPPRESSED = "known@mail.example", "suppressed@mail.example"


@pytest.fixture
def crowded(site: Site) -> Site:
    """A site on which addresses stand in every way that one can, among many others."""
    site.create_story()
    site.look(
        "INSERT INTO subscribers (email, address_hash)"
        " SELECT 'reader' || n || '@mail.example', int8send(n) FROM generate_series(1, 20000) AS n"
    )
    site.look("INSERT INTO subscribers (email, address_hash) VALUES (%s, %s)", KNOWN, hashed(KNOWN))
    site.look("INSERT INTO subscriptions (story_id, subscriber_id, confirmed_at) SELECT 1, id, now() FROM subscribers")
    site.look(
        "INSERT INTO suppressions SELECT address_hash, 'complaint' FROM subscribers WHERE id % 2 = 0 AND id < 9999"
    )
    site.look("INSERT INTO suppressions VALUES (%s, 'erased by the reader')", hashed(SUPPRESSED))
    site.look("ANALYZE")
    return site


def hashed(email: str) -> bytes:
    return address_hash(SECRET, parse_address(email))


@pytest.mark.parametrize("path", ["/s/tarrow-flood/follow", "/lost"])
def test_known_unknown_and_suppressed_addresses_are_answered_alike(crowded: Site, path: str) -> None:
    """S7: 200 times each, in turn; same status, headers and body, medians less than 5 ms apart."""
    times: dict[str, list[float]] = {"known": [], "suppressed": [], "unknown": []}
    answers = set()
    with crowded.browser() as browser:
        for number in range(ASKED):
            for kind in times:
                email = f"nobody{number}@mail.example" if kind == "unknown" else f"{kind}@mail.example"
                form = {"email": email, "cadence": "every", "timezone": "UTC"}
                headers = {"X-Forwarded-For": crowded.somewhere()}
                times[kind].append(
                    timed(
                        lambda form=form, headers=headers: answers.add(
                            without_date(  # type: ignore[misc]
                                browser.post(path, data=form, headers=headers)
                            )
                        )
                    )
                )
    medians = {kind: round(median_ms(each), 2) for kind, each in times.items()}
    print(f"S7: {path}, medians in ms {medians}")

    assert len(answers) == 1, answers
    assert answers.pop()[0] == 303
    assert max(medians.values()) - min(medians.values()) < 5
    assert crowded.look("SELECT count(*) FROM asks") == [(3 * ASKED,)]


def test_no_browser_learns_whose_address_is_known(crowded: Site) -> None:
    """With an endpoint that is not its own a browser learns as little as with one that nobody has."""
    [(reader,)] = crowded.look("SELECT id FROM subscribers WHERE email = %s", KNOWN)
    crowded.add_device(reader)
    [(endpoint,)] = crowded.look("SELECT endpoint FROM devices")
    keys = {"p256dh": P256DH, "auth": "A" * 22}
    asked = [
        crowded.push("/push/state", {"story": "tarrow-flood", "subscription": {"endpoint": each, "keys": keys}})
        for each in (endpoint, f"{endpoint}x")
    ]

    assert {answer.status_code for answer in asked} == {200}
    assert {answer.text for answer in asked} == {'{"on":false,"manage":""}'}


#: A point on the curve that anybody can make.
P256DH = "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"
