"""Answers of relays and push services in words that an editor understands."""

from __future__ import annotations

import re

import pytest

from dispatcher.channels.email import outcomes
from dispatcher.model import ChannelName, DeliveryState
from dispatcher.reasons import Answer, in_words

MAIL, PUSH = ChannelName.EMAIL, ChannelName.WEBPUSH
FAILED, DEFERRED, IN_DOUBT = DeliveryState.FAILED, DeliveryState.DEFERRED, DeliveryState.IN_DOUBT


@pytest.mark.parametrize(
    ("channel", "state", "code", "status", "words", "remedy"),
    [
        (MAIL, FAILED, 550, "5.1.1", "No such mailbox", "suppressed from now on"),
        (MAIL, FAILED, 550, "5.1.10", "The domain takes no mail", "suppressed from now on"),
        (MAIL, FAILED, 550, "", "Refused by the receiver", ""),
        (MAIL, FAILED, 554, "5.7.1", "Refused by the receiver’s rules", ""),
        (MAIL, FAILED, 550, "5.1.8", "The receiver does not like our address", ""),
        (MAIL, DEFERRED, 452, "4.2.2", "Mailbox is full", ""),
        (MAIL, DEFERRED, 452, "", "Mailbox is full", ""),
        (MAIL, DEFERRED, 450, "4.1.1", "No such mailbox", ""),
        (MAIL, DEFERRED, 421, "4.3.2", "The relay asked us to slow down", ""),
        (MAIL, DEFERRED, 451, "4.7.0", "The relay asked us to slow down", ""),
        (MAIL, DEFERRED, 451, "", "The receiver asks to try later", ""),
        (MAIL, DEFERRED, 451, "4.99.1", "The receiver asks to try later", ""),
        (PUSH, FAILED, 410, "", "Browser no longer subscribed", "removed"),
        (PUSH, FAILED, 413, "", "The message is too large", ""),
        (PUSH, FAILED, 400, "", "The push service refused the message", ""),
        (PUSH, DEFERRED, 429, "", "The push service asked us to wait", ""),
        (PUSH, DEFERRED, 503, "", "The push service has trouble", ""),
        (PUSH, DEFERRED, None, "", "The push service did not answer", ""),
        (MAIL, DeliveryState.CAPPED, None, "", "Did not want it just then", ""),
        (MAIL, FAILED, None, "", "No reason is known", ""),
    ],
)
def test_an_answer_is_told_in_plain_words_with_what_we_do_about_it(
    channel: ChannelName, state: DeliveryState, code: int | None, status: str, words: str, remedy: str
) -> None:
    found = in_words(Answer(channel, state, code, status, ""))

    assert (found.words, found.remedy) == (words, remedy)
    assert re.fullmatch(r"[a-z0-9-]+", found.key)


def test_our_own_words_are_told_in_plainer_ones() -> None:
    ours = (
        *(outcomes.lost_before_last_byte("r"), outcomes.lost_after_last_byte("r", silent=True)),
        *(outcomes.lost_after_last_byte("r", silent=False), outcomes.cannot_travel("r")),
        *(outcomes.cannot_be_made(ValueError("x")), outcomes.too_large("r", 9, 8)),
    )
    found = [in_words(Answer(MAIL, IN_DOUBT, None, "", each.reply)) for each in ours]

    assert "other" not in {each.key for each in found}
    assert len({each.key for each in found}) == 5


def test_what_nobody_foresaw_is_told_as_it_was_said() -> None:
    assert in_words(Answer(MAIL, FAILED, None, "", "A new kind of trouble")).words == "A new kind of trouble"
