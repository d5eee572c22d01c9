"""Logs: readable, or JSON lines; and no mail address in any of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from dispatcher.errors import Misconfigured
from dispatcher.logs import hide_addresses, setup

TALK = """
import logging, structlog
from dispatcher import logs
logs.setup()
structlog.get_logger().warning("a reader wrote", sender="Jürgen.Grün+news@bücher.example", count=3)
logging.getLogger("library").error("cannot reach %s", "o'brien@example.test", extra={"link": "/u?to=a%40b.example"})
try:
    raise ValueError('no "ada@example.test" here')
except ValueError:
    structlog.get_logger().exception("it failed")
logging.getLogger("kombu").info("chatter")
"""


def talk(**env: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", TALK], env=env, capture_output=True, check=True)
    assert done.stdout == b""
    return done.stderr.decode().splitlines()


def test_for_machines_every_line_is_json_and_no_address_is_in_it() -> None:
    lines = talk(DISPATCHER_LOG="json", PYTHONUTF8="1")
    events = [json.loads(line) for line in lines]

    assert [event["event"] for event in events] == ["a reader wrote", "cannot reach [address]", "it failed"]
    assert events[0]["sender"] == "[address]"
    assert events[0]["count"] == 3
    assert events[1]["link"] == "/u?to=[address]"
    assert 'ValueError: no "[address]" here' in events[2]["exception"]
    assert not [line for line in lines if "example" in line]


def test_for_people_it_is_plain_text_without_colours_unless_on_a_terminal() -> None:
    text = "\n".join(talk(PYTHONUTF8="1"))

    assert "a reader wrote" in text
    assert "sender=[address]" in text
    assert "Traceback" in text
    assert "\x1b" not in text
    assert "example" not in text


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("to ada@example.test.", "to [address]"),
        ("<ada@example.test>, bob@example.test;", "<[address]>, [address];"),
        ('{"to": "ada@example.test"}', '{"to": "[address]"}'),
        ("redis://user:secret@broker:6379", "redis://user:[address]:6379"),
        ("/manage?to=ada%40example.test&x=1", "/manage?to=[address]&x=1"),
        ("nobody at all, 100 % sure", "nobody at all, 100 % sure"),
    ],
)
def test_addresses_are_hidden_and_the_rest_stays(text: str, hidden: str) -> None:
    assert hide_addresses(text) == hidden


@pytest.mark.parametrize("text", ["a" * 500_000 + "@", "a@" * 250_000, "%4" * 250_000 + "@", "a " * 250_000 + "@"])
def test_hiding_takes_linear_time(text: str) -> None:
    began = time.process_time()
    hide_addresses(text)

    assert time.process_time() - began < 3


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(Misconfigured, match="'loud'"):
        setup({"DISPATCHER_LOG_LEVEL": "loud"})
