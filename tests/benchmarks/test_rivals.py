"""The rivals and the far-away relay do what they are compared for."""

from __future__ import annotations

import time
from email import policy
from email.parser import BytesParser

import pytest

from dispatcher.embedded.valkey import Valkey
from tests.benchmarks import celery_program, raw, rivals
from tests.benchmarks.programs import delayed, found, own_sink
from tests.support.smtp import Dialogue


def test_the_usual_celery_program_sends_every_mail(valkey: Valkey, broker_url: str) -> None:
    with own_sink() as sink:
        speed = celery_program.per_second(broker_url, sink, 40, size_kb=4)
        taken = sink.taken()

    assert taken == 40
    assert speed > 0


def test_the_usual_programs_mail_is_as_large_as_ours() -> None:
    raw_mail = celery_program.message_for(7, 20).as_bytes()
    mail = BytesParser(policy=policy.default).parsebytes(raw_mail)

    assert abs(len(raw_mail) - 20 * 1024) < 1024
    assert mail.get_content_type() == "multipart/alternative"
    assert "reader7@example.test" in mail["To"]


def test_a_relay_behind_the_proxy_is_a_round_trip_away_and_no_byte_is_lost() -> None:
    with own_sink() as sink, delayed(sink.port, 100) as port:
        began = time.monotonic()
        with Dialogue(port) as client:
            greeted = time.monotonic() - began
            asked = time.monotonic()
            reply = client.mail(b"x" * 200_000 + b"\r\n")
            answered = time.monotonic() - asked
        taken = sink.taken()

    assert reply.startswith("250")
    assert taken == 1
    # The greeting and the answer to EHLO: half a round trip and a whole one. A mail in the plain dialogue: four.
    assert greeted >= 0.14
    assert 0.39 <= answered < 4


def test_pipelining_needs_one_round_trip_where_the_plain_dialogue_needs_four() -> None:
    with own_sink() as sink, delayed(sink.port, 60) as port:
        pipelined = raw.send(port, 40, lanes=4)
        plain = raw.send(port, 12, lanes=4, plain=True)

    assert pipelined["seconds"] >= 0.06 * 10
    assert plain["seconds"] >= 0.06 * 4 * 3


@pytest.mark.skipif(found("smtp-sink") is None, reason="Debian's postfix is not installed")
def test_postfixs_sink_takes_what_the_raw_client_sends() -> None:
    with rivals.smtp_sink() as sink:
        assert raw.send(sink.port, 100, lanes=4)["messages"] == 100
        with pytest.raises(ValueError, match="does not tell"):
            sink.taken()
