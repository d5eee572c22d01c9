"""The web push channel against real push services: what each answer means, and that nobody's trouble is another's."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from dispatcher.channels import CircuitState, Fate
from dispatcher.channels.webpush import MAX_PLAINTEXT, channel, origins
from dispatcher.errors import Misconfigured
from tests.support.push_service import Answer, PushService, a_push_service
from tests.support.pushes import Parcel, a_post, outcomes, sign


async def until(condition: Callable[[], object], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
def nobody() -> str:
    """An origin where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def moved(parcel: Parcel, origin: str) -> Parcel:
    """The same push, for a device of another service."""
    parcel.address = f"{origin}/push/{parcel.address.rpartition('/')[2]}"
    return parcel


async def test_every_device_gets_its_push_and_can_read_it() -> None:
    async with a_push_service() as service, a_post(service) as post:
        devices = [service.device() for _ in range(40)]
        parcels = [Parcel(device, f"for {number}") for number, device in enumerate(devices)]
        found = await post.send(*parcels)

    assert {(each.fate, each.code, each.relay) for each in found} == {(Fate.ACCEPTED, 201, "127.0.0.1")}
    for number, device in enumerate(devices):
        (push,) = device.received
        assert push.message == {"title": f"for {number}"}
        assert push.headers["ttl"] == "3600"
        assert push.headers["urgency"] == "high"
        assert push.headers["topic"] == "story-1"
        assert push.headers["content-encoding"] == "aes128gcm"
        assert push.headers["authorization"].startswith("vapid t=")
        assert "cookie" not in push.headers
    assert service.connections <= 8


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_a_yes_in_any_form_is_a_yes(status: int) -> None:
    async with a_push_service() as service, a_post(service) as post:
        device = service.device()
        device.answer(Answer(status))
        (outcome,) = await post.send(Parcel(device))

    assert (outcome.fate, outcome.code, outcome.reply) == (Fate.ACCEPTED, status, "")


@pytest.mark.parametrize(
    ("status", "fate", "gone"),
    [
        (404, Fate.FAILED, True),
        (410, Fate.FAILED, True),
        (400, Fate.FAILED, False),
        (401, Fate.FAILED, False),
        (403, Fate.FAILED, False),
        (405, Fate.FAILED, False),
        (413, Fate.FAILED, False),
        (302, Fate.FAILED, False),
        (408, Fate.DEFERRED, False),
        (500, Fate.DEFERRED, False),
        (502, Fate.DEFERRED, False),
        (503, Fate.DEFERRED, False),
    ],
)
async def test_what_an_answer_means(status: int, fate: Fate, gone: bool) -> None:
    """R37."""
    async with a_push_service() as service, a_post(service) as post:
        device = service.device()
        device.answer(Answer(status, body=b'{"reason": "because\nof this"}'))
        (outcome,) = await post.send(Parcel(device))

    assert (outcome.fate, outcome.bad_address) == (fate, gone)
    assert outcome.reply
    assert "\n" not in outcome.reply
    assert status == 302 or (outcome.code == status and "because of this" in outcome.reply)
    assert len(device.received) == 1


async def test_a_device_that_has_unsubscribed_is_gone() -> None:
    async with a_push_service() as service, a_post(service) as post:
        device = service.device()
        service.gone(device)
        (outcome,) = await post.send(Parcel(device))

    assert (outcome.fate, outcome.code, outcome.bad_address) == (Fate.FAILED, 410, True)


async def test_a_service_that_calls_everybody_gone_is_not_believed_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MOST_GONE", 5)
    async with a_push_service() as service, a_post(service, lanes=1) as post:
        service.script = lambda _: Answer(404)
        found = await post.send(*(Parcel(service.device()) for _ in range(8)))
        service.script = lambda _: Answer()
        await post.send(Parcel(service.device()))
        service.script = lambda _: Answer(410)
        (after,) = await post.send(Parcel(service.device()))

    assert [each.bad_address for each in found] == [True] * 5 + [False] * 3
    assert {each.fate for each in found} == {Fate.FAILED}
    assert after.bad_address


async def test_silence_leaves_in_doubt_whether_it_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "TIMEOUT", 0.2)
    async with a_push_service() as service, a_post(service) as post:
        device = service.device()
        device.answer(Answer(silent=True), Answer())
        (outcome,) = await post.send(Parcel(device))
        (again,) = await post.send(Parcel(device))

    assert (outcome.fate, outcome.code, outcome.bad_address) == (Fate.IN_DOUBT, None, False)
    assert "No answer within 0.2 seconds" in outcome.reply
    assert again.fate is Fate.ACCEPTED


async def test_a_connection_that_the_service_has_closed_meanwhile_costs_the_reader_nothing() -> None:
    async with a_push_service() as service, a_post(service) as post:
        device = service.device()
        await post.send(Parcel(device))
        device.answer(Answer(drop=True), Answer())
        (outcome,) = await post.send(Parcel(device))
        device.answer(Answer(drop=True))
        (refused,) = await post.send(Parcel(device))

        device.answer(Answer(drop=True), Answer(503))
        (second,) = await post.send(Parcel(device))

    assert outcome.fate is Fate.ACCEPTED
    assert (refused.fate, refused.code) == (Fate.IN_DOUBT, None)
    assert (second.fate, second.code) == (Fate.IN_DOUBT, 503)  # the first may have been taken
    assert len(device.received) == 7


@pytest.mark.parametrize("form", ["seconds", "date", "none"])
async def test_too_many_holds_the_service_for_as_long_as_it_says(form: str) -> None:
    """R37: nothing is offered there before the time has come; other services go on."""
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=121), usegmt=True)
    headers = {"seconds": {"Retry-After": "120"}, "date": {"Retry-After": date}, "none": {}}[form]
    async with a_push_service() as busy, a_push_service() as other, a_post(busy, other, lanes=1) as post:
        busy.script = lambda _: Answer(429, headers, b"slow down")
        parcels = [Parcel(busy.device()) for _ in range(20)]
        first, *rest = await post.send(*parcels)
        elsewhere = await post.send(*(Parcel(other.device()) for _ in range(5)))
        holding = post.channel.holding

    assert (first.fate, first.code, first.reply) == (Fate.DEFERRED, 429, "slow down")
    least = 59 if form == "none" else 119
    assert least <= first.wait <= least + 2
    assert {each.fate for each in rest} == {Fate.UNSENT}
    assert all(least - 1 <= each.wait <= least + 2 and "takes no more" in each.reply for each in rest)
    assert busy.count == 1
    assert {each.fate for each in elsewhere} == {Fate.ACCEPTED}
    assert holding == ""
    assert post.changes


async def test_no_service_makes_us_wait_for_longer_than_an_hour() -> None:
    async with a_push_service() as service, a_post(service) as post:
        service.script = lambda _: Answer(429, {"Retry-After": "99999999999999"})
        (outcome,) = await post.send(Parcel(service.device()))

    assert outcome.wait == 3600


async def test_a_service_that_was_held_is_offered_pushes_when_the_time_has_come() -> None:
    async with a_push_service() as service, a_post(service) as post:
        service.script = lambda _: Answer(429, {"Retry-After": "1"})
        since = time.monotonic()
        await post.send(Parcel(service.device()))
        service.script = lambda _: Answer()
        before = post.changes
        await until(lambda: post.changes > before)
        (outcome,) = await post.send(Parcel(service.device()))

    assert outcome.fate is Fate.ACCEPTED
    assert service.received[1].at - since >= 1


async def test_one_device_that_has_too_many_does_not_stop_a_service_that_takes_the_others() -> None:
    async with a_push_service() as service, a_post(service, lanes=1) as post:
        await post.send(Parcel(service.device()))
        flooded, second = service.device(), service.device()
        flooded.answer(Answer(429, {"Retry-After": "600"}))
        second.answer(Answer(429, {"Retry-After": "600"}))
        one, beside = await post.send(Parcel(flooded), Parcel(service.device()))
        await until(lambda: post.channel.reports()[0].circuit is CircuitState.CLOSED)
        (meanwhile,) = await post.send(Parcel(service.device()))
        await post.send(Parcel(flooded))
        await until(lambda: post.channel.reports()[0].circuit is CircuitState.CLOSED)
        two, after = await post.send(Parcel(second), Parcel(service.device()))

    assert one.wait == two.wait == 600
    assert beside.fate is after.fate is Fate.UNSENT
    assert 0.5 < beside.wait <= 1
    assert meanwhile.fate is Fate.ACCEPTED
    assert 595 < after.wait <= 600


async def test_a_later_push_of_a_story_replaces_the_one_that_waits() -> None:
    """R39: same topic, and the device that was away shows one."""
    async with a_push_service() as service, a_post(service) as post:
        device = service.device()
        other = Parcel(device, "another story")
        other.topic = "story-2"
        for parcel in (Parcel(device, "first"), other, Parcel(device, "second"), Parcel(device, "second")):
            await post.send(parcel)

    assert len(device.accepted) == 4
    assert [push.message["title"] for push in device.waiting] == ["another story", "second"]


async def test_a_lane_waits_until_the_ledger_holds_its_last_answer() -> None:
    async with a_push_service() as service, a_post(service, lanes=3) as post:
        parcels = [Parcel(service.device()) for _ in range(10)]
        for parcel in parcels:
            parcel.at_once = False
        post.hand_in(*parcels)
        await until(lambda: service.count == 3)
        await asyncio.sleep(0.1)
        assert service.count == 3
        for number in range(7):
            parcels[number].recorded()
            await until(lambda: service.count > 3 + number)  # noqa: B023  # it is over before the next number
            await asyncio.sleep(0.01)
            assert service.count == 4 + number
        for parcel in parcels:
            parcel.recorded()
        await outcomes(parcels)

    assert service.most_open <= 3


async def test_what_is_urgent_goes_first() -> None:
    async with a_push_service() as service, a_post(service, lanes=1) as post:
        device = service.device()
        bulk = [Parcel(device, f"bulk {number}", urgency=5) for number in range(3)]
        await post.send(*bulk, Parcel(device, "breaking", urgency=0))

    assert device.received[0].message == {"title": "breaking"}


async def test_a_push_that_nobody_wants_any_more_is_not_offered() -> None:
    async with a_push_service() as service, a_post(service) as post:
        parcel = Parcel(service.device())
        parcel.is_wanted = False
        (outcome,) = await post.send(parcel)

    assert outcome.fate is Fate.UNSENT
    assert service.count == 0


async def test_a_service_that_is_away_is_left_alone_and_slows_nobody(nobody: str) -> None:
    async with a_push_service() as service, a_post(service, nobody, lanes=4) as post:
        away = [moved(Parcel(service.device()), nobody) for _ in range(100)]
        here = [Parcel(service.device()) for _ in range(100)]
        since = time.monotonic()
        for pair in zip(away, here, strict=True):
            post.hand_in(*pair)
        reached = await outcomes(here)
        lost = await outcomes(away)
        took = time.monotonic() - since
        reports = {(each.circuit, bool(each.reason)) for each in post.channel.reports()}
        assert post.channel.holding == ""

    assert {each.fate for each in reached} == {Fate.ACCEPTED}
    deferred = [each for each in lost if each.fate is Fate.DEFERRED]
    unsent = [each for each in lost if each.fate is Fate.UNSENT]
    assert len(deferred) == origins.MOST_FAILURES - 1
    assert len(deferred) + len(unsent) == 100
    assert all("refused" in each.reply for each in lost)
    assert all(13 < each.wait <= 15 for each in unsent)
    assert took < 12
    assert reports == {(CircuitState.CLOSED, False), (CircuitState.OPEN, True)}
    assert post.unavailable == []


async def test_where_nobody_answers_anywhere_it_is_said_so(nobody: str) -> None:
    async with a_push_service() as service, a_post(nobody) as post:
        await post.send(*(moved(Parcel(service.device()), nobody) for _ in range(30)))
        assert "cannot be reached" in post.channel.holding
        assert len(post.backlog) == 0

    assert len(post.unavailable) == 1
    assert post.unavailable[0].startswith("127.0.0.1 cannot be reached: No connection: Connection refused")


async def test_one_push_tries_before_the_others_when_a_service_was_away(
    nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origins, "UNREACHABLE_WAIT", 0.3)
    port = int(nobody.rpartition(":")[2])
    async with a_push_service() as elsewhere, a_post(nobody) as post:
        devices = [elsewhere.device() for _ in range(30)]
        await post.send(*(moved(Parcel(device), nobody) for device in devices[:6]))
        before = post.changes
        await until(lambda: post.changes > before)
        failed = await post.send(*(moved(Parcel(device), nobody) for device in devices[:6]))
        before = post.changes
        await until(lambda: post.changes > before)
        async with a_push_service(port=port) as service:
            service.devices = elsewhere.devices
            service.script = elsewhere.script = lambda _: Answer(delay=0.1)
            parcels = [moved(Parcel(device), nobody) for device in devices]
            post.hand_in(*parcels)
            await until(lambda: service.open)
            await asyncio.sleep(0.05)
            assert service.count == 1
            found = await outcomes(parcels)

    assert {each.fate for each in failed} == {Fate.UNSENT}  # one tried, and none paid for it with an attempt
    assert {each.fate for each in found} == {Fate.ACCEPTED}
    assert service.most_open > 1


async def test_a_service_that_says_nothing_slows_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "SLOW_AFTER", 0.2)
    monkeypatch.setattr(channel, "LOOK_EVERY", 0.05)
    async with a_push_service() as mute, a_push_service() as service, a_post(mute, service, lanes=4) as post:
        mute.script = lambda _: Answer(silent=True)
        post.hand_in(*(Parcel(mute.device()) for _ in range(100)))
        await until(lambda: mute.count == 4)
        since = time.monotonic()
        found = await post.send(*(Parcel(service.device()) for _ in range(200)))
        took = time.monotonic() - since
        lanes = post.channel.lanes

    assert {each.fate for each in found} == {Fate.ACCEPTED}
    assert took < 12
    assert mute.most_open <= 6
    assert lanes <= 4 * channel.MOST_LANES


async def test_a_slow_service_gets_all_its_pushes_and_is_quick_again_when_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(origins, "SLOW_AFTER", 0.05)
    monkeypatch.setattr(channel, "LOOK_EVERY", 0.02)
    async with a_push_service() as slow, a_post(slow, lanes=8) as post:
        slow.script = lambda _: Answer(delay=0.12)
        found = await post.send(*(Parcel(slow.device()) for _ in range(40)))
        was_limited = post.channel.reports()[0]
        slow.script = lambda _: Answer()
        found += await post.send(*(Parcel(slow.device()) for _ in range(100)))
        await post.send(Parcel(slow.device()))
        report = post.channel.reports()[0]

    assert {each.fate for each in found} == {Fate.ACCEPTED}
    assert was_limited.circuit is CircuitState.CLOSED
    assert report.overdue == 0


async def test_what_is_too_long_is_not_offered() -> None:
    async with a_push_service() as service, a_post(service) as post:
        long, just = Parcel(service.device()), Parcel(service.device())
        frame = len(Parcel(service.device(), "").payload())
        long.text, just.text = "x" * (MAX_PLAINTEXT - frame + 1), "x" * (MAX_PLAINTEXT - frame)
        refused, taken = await post.send(long, just)

    assert (refused.fate, refused.code, refused.bad_address) == (Fate.FAILED, None, False)
    assert "3,993" in refused.reply
    assert taken.fate is Fate.ACCEPTED
    assert [len(push.body) for push in service.received] == [4096]


@pytest.mark.parametrize("broken", ["payload", "key", "signature"])
async def test_a_push_that_cannot_be_made_is_told_of_without_a_word_of_the_reader(broken: str) -> None:
    async def no_key(_: str) -> str:
        raise Misconfigured("The key pair cannot be opened.")

    authorise = no_key if broken == "signature" else sign
    async with a_push_service() as service, a_post(service, authorise=authorise) as post:
        parcel = Parcel(service.device())
        if broken == "payload":
            parcel.text = b"reader@example.org"  # type: ignore[assignment]
        elif broken == "key":
            parcel.public_key = bytes(65)
        (outcome,) = await post.send(parcel)

    assert service.count == 0
    assert "reader" not in outcome.reply
    if broken == "signature":
        assert (outcome.fate, outcome.wait) == (Fate.UNSENT, 15)
        assert outcome.reply == "The key pair cannot be opened."
    else:
        assert (outcome.fate, outcome.bad_address) == (Fate.FAILED, False)
        assert "could not be made" in outcome.reply


async def test_an_endpoint_that_leads_inside_is_never_connected_to() -> None:
    """S8: also if it came into the database past the form."""
    async with a_push_service() as canary, a_push_service() as service, a_post(service) as post:
        port = canary.origin.rpartition(":")[2]
        places = (
            *(f"https://127.0.0.1:{port}", f"http://127.0.0.1:{port}", f"https://[::1]:{port}", "https://10.0.0.1"),
            *("https://169.254.169.254", f"http://2130706433:{port}", f"https://[64:ff9b::7f00:1]:{port}"),
            *(f"https://fcm.googleapis.com@127.0.0.1:{port}", f"{service.origin}@127.0.0.1:{port}", "nothing", ""),
        )
        parcels = [moved(Parcel(canary.device()), place) for place in places]
        found = await post.send(*parcels)

    assert canary.connections == service.connections == 0
    assert {(each.fate, each.code, each.bad_address) for each in found} == {(Fate.FAILED, None, False)}
    assert all(each.reply and parcel.address not in each.reply for each, parcel in zip(found, parcels, strict=True))


async def test_a_service_that_is_no_longer_allowed_is_not_sent_to() -> None:
    async with (
        a_push_service() as service,
        a_push_service() as former,
        a_post(service, former, allowed=[service.origin, "fcm.googleapis.com"]) as post,
    ):
        taken, refused = await post.send(Parcel(service.device()), Parcel(former.device()))

    assert taken.fate is Fate.ACCEPTED
    assert refused.fate is Fate.FAILED
    assert "no push service that this newsroom sends to" in refused.reply
    assert former.connections == 0


async def in_the_middle(service: PushService, count: int, delay: float) -> list[Parcel]:
    service.script = lambda _: Answer(delay=delay)
    return [Parcel(service.device()) for _ in range(count)]


async def test_closing_finishes_what_is_on_its_way_and_leaves_the_rest() -> None:
    async with a_push_service() as service, a_post(service, lanes=4) as post:
        parcels = await in_the_middle(service, 20, 0.2)
        post.hand_in(*parcels)
        await until(lambda: service.open == 4)
        await post.channel.close(5)
        post.channel.wake()
        post.backlog.drop("the worker stops")
        found = await outcomes(parcels)

        assert post.channel.lanes == 0
    assert [each.fate for each in found] == [Fate.ACCEPTED] * 4 + [Fate.UNSENT] * 16
    assert service.count == 4


async def test_closing_waits_no_longer_than_it_may_and_says_what_it_left_open() -> None:
    async with a_push_service() as service, a_post(service, lanes=2) as post:
        parcels = await in_the_middle(service, 2, 30)
        post.hand_in(*parcels)
        await until(lambda: service.open == 2)
        since = time.monotonic()
        await post.channel.close(0.1)
        took = time.monotonic() - since
        found = await outcomes(parcels)

    assert took < 10
    assert {(each.fate, each.reply) for each in found} == {(Fate.IN_DOUBT, channel.STOPPED)}


async def test_closing_does_not_wait_for_a_ledger_that_is_away() -> None:
    async with a_push_service() as service, a_post(service) as post:
        parcel = Parcel(service.device())
        parcel.at_once = False
        await post.send(parcel)
        await post.channel.close(0.1)

    assert parcel.outcome.fate is Fate.ACCEPTED
