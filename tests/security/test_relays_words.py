"""Relays repeat the address that they refuse. What is kept of their words holds nobody's address (S31)."""

from __future__ import annotations

import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.channels.email.outcomes import LONGEST_REPLY, from_reply
from tests.channels.test_letter_properties import ADDRESS

WAYS = (
    "5.1.1 <{}>: Recipient address rejected: User unknown",
    "5.1.1 {}... no such user",
    "5.7.1 Message to {}, refused",
    "5.2.1 ({})",
    "5.2.1 mailbox:{} is full",
    "5.7.1 see https://help.example/?e={quoted}&r=1",
    "5.0.0 '{}' \"{}\" {upper}",
    "{}",
    "5.1.1 for={}",
    "5.1.1 [{}] {}:{};{}",
)


@given(ADDRESS, st.sampled_from(WAYS), st.sampled_from([250, 450, 550]))
def test_no_way_of_repeating_an_address_is_kept(address: str, way: str, code: int) -> None:
    said = way.format(*[address] * 4, quoted=quote(address), upper=address.upper())
    kept = from_reply(code, said.encode(), "relay").reply

    for form in (address, quote(address), address.upper()):
        assert form not in kept
    assert "@" not in kept
    assert "%40" not in kept


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("5.1.1 <ana@mail.example>: User unknown", "5.1.1 <[address]>: User unknown"),
        ("5.1.1 ana@mail.example: unknown (in reply to RCPT)", "5.1.1 [address]: unknown (in reply to RCPT)"),
        ("2.0.0 Ok: queued as 4QzX", "2.0.0 Ok: queued as 4QzX"),
        ("4.2.2 mailbox full, 90% used", "4.2.2 mailbox full, 90% used"),
    ],
)
def test_everything_else_that_a_relay_says_stays(said: str, kept: str) -> None:
    assert from_reply(550, said.encode(), "relay").reply == kept


def test_a_status_that_decides_is_read_before_anything_is_hidden() -> None:
    found = from_reply(550, b"5.1.1 <ana@mail.example>: no such user", "relay")

    assert found.bad_address


@pytest.mark.parametrize("said", ["a" * 60_000 + "@", "@" * 60_000, "a@" * 30_000, "%4" * 30_000 + "@"])
def test_a_long_line_takes_no_time(said: str) -> None:
    began = time.process_time()
    kept = from_reply(550, said.encode(), "relay").reply

    assert time.process_time() - began < 0.5
    assert len(kept) <= LONGEST_REPLY
