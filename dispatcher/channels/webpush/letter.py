"""A push's JSON, compiled once per variant, with one slot: where this reader ends following the story."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from json.encoder import encode_basestring_ascii
from typing import Self

from dispatcher.channels.webpush import MAX_PLAINTEXT
from dispatcher.errors import Invalid, TooLarge

#: The name of the slot in the JSON.
SLOT = "leave"
#: Room that is kept for its value, in bytes.
LEAVE_ROOM = 200
_FORMAT = b"push 1"
#: JSON holds no raw control character (RFC 8259 §7), so this cannot stand in it.
_CUT = b"\0"


@dataclass(frozen=True, slots=True)
class PushLetter:
    """One variant of a push: what stands before the slot's value, and what stands behind it."""

    before: bytes
    after: bytes

    def splice(self, leave_url: str) -> bytes:
        """The JSON for one reader, in UTF-8. It is whole whatever the URL holds."""
        return self.before + encode_basestring_ascii(leave_url).encode() + self.after

    def dumps(self) -> bytes:
        """The letter as the database keeps it."""
        return _CUT.join((_FORMAT, self.before, self.after))

    @classmethod
    def loads(cls, kept: bytes) -> Self:
        """What `dumps` gave. Raises `Invalid` if this version cannot read it."""
        parts = kept.split(_CUT)
        if len(parts) != 3 or parts[0] != _FORMAT:
            raise Invalid(
                "The database holds a push that this version cannot read.",
                remedy="Finish the update: every web and worker process has to run the same version.",
            )
        return cls(parts[1], parts[2])


def compile_push(content: Mapping[str, object]) -> PushLetter:
    """Compile a push from what the service worker will read: title, body, url, tag, lang, dir, at (milliseconds),
    story, seq, kind, withdraws (the seq that a withdrawal takes back), importance, open and stop (the labels of the two
    actions).

    Raises `Invalid` if it is no JSON or has a key that is the slot's, and `TooLarge` if no push service would take it,
    encrypted and with a leave link of 200 bytes.
    """
    if SLOT in content:
        raise Invalid(f"A push says `{SLOT}` by itself: that is each reader's own.", field=SLOT)
    try:
        text = json.dumps(dict(content), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        whole = text.encode()
    except (TypeError, ValueError) as error:  # a lone surrogate is a ValueError too
        raise Invalid(f"The push cannot be written as JSON ({type(error).__name__}).") from error
    between = b"," if content else b""
    letter = PushLetter(whole[:-1] + between + f'"{SLOT}":'.encode(), b"}")
    room = MAX_PLAINTEXT - len(letter.splice("")) - LEAVE_ROOM
    if room < 0:
        raise TooLarge(
            f"The push is {-room:,} bytes too long: encrypted it must fit in 4,096 bytes.",
            remedy="Shorten the headline or the text that goes into pushes.",
            field="body",
        )
    return letter
