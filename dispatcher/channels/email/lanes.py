"""A lane: one open SMTP session that sends message after message, in one round trip each.

The session is opened elsewhere (connect, TLS, AUTH, EHLO); a lane takes over its transport. With PIPELINING
(RFC 2920) MAIL, RCPT and DATA go out in one write, and the next message's envelope rides behind this message's
final dot. Without it, each command waits for its answer. Either way every reply is read and matched.

A lane starts no message while the ledger does not hold its last answer, so a killed process leaves at most one
message in doubt on each lane.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

from dispatcher.channels import Feed, Outcome, Parcel
from dispatcher.channels.email import outcomes
from dispatcher.channels.email.flight import ENVELOPE, Flight, Step

#: RFC 5321 §4.5.3.2: how long to wait for each answer, in seconds.
TIMEOUTENVELOPE = 300.0
TIMEOUT_DATA = 120.0
TIMEOUT_BODY = 600.0
TIMEOUT_QUIT = 5.0
#: A relay that sends a longer line, or a reply of more lines, is not speaking SMTP (RFC 5321 §4.5.3.1.5 allows 512).
LONGEST_LINE = 4096
MOST_LINES = 100
#: Where a session ends after fewer messages, that is how this relay is, and not the doing of the message it dropped.
FEW = 10
#: Behind a longer message no envelope rides: while bytes wait to leave, it must be plain that they are the message's.
LONGEST_WITH_RIDER = 131_072

_CLOSING = 421


class Lane(asyncio.Protocol):
    """One SMTP session. Takes parcels from `feed` until there are none, then waits to be woken."""

    def __init__(
        self,
        feed: Feed,
        relay: str,
        *,
        pipelining: bool,
        eight_bit: bool,
        utf8: bool,
        size_limit: int,
        on_closed: Callable[[Lane, str], None],
        most: int = 0,
    ) -> None:
        """At most `most` messages are sent before the session ends; 0: as many as there are."""
        self.relay = relay
        self.deadline = float("inf")  #: on the loop's clock; past it the relay counts as silent
        self.idle_since: float | None = None
        self.opened_at = 0.0
        self.asked_at = 0.0  #: when the relay was last told something
        self.overdue = False  #: the relay's answer is; until it comes, this lane takes nothing
        self.sent = 0  #: messages that the relay has answered
        self.offered = False  #: at least one envelope has gone out
        self.given_up = False  #: we ended the session ourselves, the relay is not to blame
        self._feed = feed
        self._pipelining = pipelining
        self._eight_bit = eight_bit
        self._utf8 = utf8
        self._size_limit = size_limit
        self._on_closed = on_closed
        self._left = most or float("inf")  # messages that this session may still take
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._expected: deque[tuple[Step, Flight | None]] = deque()
        self._unsaid: deque[tuple[Step, Flight | None, bytes]] = deque()  # commands that wait for their turn
        self._current: Flight | None = None  # its body is out, its answer is not in
        self._next: Flight | None = None  # its envelope is out
        self._unrecorded = 0
        self._reset = False  # the last transaction was refused half-way: RSET before the next one
        self._quitting = False
        self._flushed = True  # every byte written has left this process
        self._rider = False  # an envelope was written behind the current body
        self._buffer = b""
        self._text: list[bytes] = []

    @property
    def busy(self) -> bool:
        """True while a parcel is on this lane, or its answer is not yet in the ledger."""
        return self._current is not None or self._next is not None or self._unrecorded > 0

    @property
    def closed(self) -> bool:
        return self._transport is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not instances of it
        self._transport.set_write_buffer_limits(high=0)  # so that we are told whenever bytes could not leave at once
        self.idle_since = self.opened_at = self._loop.time()

    def wake(self) -> None:
        """There may be work: take it if this lane is free."""
        self._advance()

    def quit(self) -> None:
        """Finish the message that is on its way, then QUIT. What has only its envelope out is given back."""
        if self._quitting or self._transport is None:
            return
        self._quitting = True
        self._advance()

    @property
    def waiting_since(self) -> float:
        """When the relay was asked for the answer that has not come; infinity if nothing is awaited."""
        return self.asked_at if self._expected and not self._quitting else float("inf")

    @property
    def stuck(self) -> bool:
        """True while bytes of a message cannot leave because the relay does not read."""
        return self._current is not None and not self._flushed

    def be_overdue(self) -> None:
        """The answer has taken long. Go on waiting for it, but let nobody wait for this lane."""
        self.overdue = True
        if self._current is not None:
            self._current.parcel.overdue(self.deadline - self._loop.time())
        if self._next is not None and not self._next.abandoned:
            self._next.abandoned = True
            self._unsaid.clear()
            self._feed.give_back(self._next.parcel)

    def expire(self) -> None:
        """The deadline has passed: the relay is silent. What it may have taken is in doubt."""
        self._close("the relay gave no answer in time", silent=True)

    def data_received(self, data: bytes) -> None:
        lines = (self._buffer + data if self._buffer else data).split(b"\n")
        self._buffer = lines.pop()
        expected = self._expected
        for line in lines:
            if line[:4] == b"250 " and not self._text and len(line) <= LONGEST_LINE:
                if expected and expected[0][0] in ENVELOPE and self._pipelining:
                    # The usual yes inside an envelope: DATA's answer says whether a body may follow.
                    expected.popleft()
                    self.overdue = False
                else:
                    self._answered(250, line[4:])
            else:
                self._line(line)
            if self._transport is None:
                return
        if len(self._buffer) > LONGEST_LINE:
            self._close("the relay sends a line that does not end")

    def _line(self, line: bytes) -> None:
        """One line of a reply (RFC 5321 §4.2.1): `250-` goes on, `250 ` ends it."""
        if len(line) > LONGEST_LINE or not line[:3].isdigit():
            self._close("the relay does not speak SMTP: " + outcomes.words(line[:80]))
            return
        self._text.append(line[4:])
        if line[3:4] != b"-":
            text, self._text = b" ".join(self._text), []
            self._answered(int(line[:3]), text)
        elif len(self._text) > MOST_LINES:
            self._close("the relay's answer does not end")

    def pause_writing(self) -> None:
        self._flushed = False

    def resume_writing(self) -> None:
        self._flushed = True

    def connection_lost(self, exc: Exception | None) -> None:
        self._close("the relay closed the connection" if exc is None else f"the connection was lost: {exc}")

    def _answered(self, code: int, text: bytes) -> None:
        if not self._expected:
            self._close(f"the relay said without being asked: {code} {outcomes.words(text)}")
            return
        step, flight = self._expected.popleft()
        self.overdue = False
        if step in ENVELOPE and 200 <= code < 300 and self._pipelining:
            return
        if code == _CLOSING and step is not Step.BODY and step is not Step.QUIT:
            if flight is not None and step is not Step.MAIL and outcomes.is_about_recipient(text):
                flight.refusal = flight.refusal or outcomes.from_reply(code, text, self.relay)
            self._close(f"the relay closes the session: {outcomes.words(text)}")
            return
        if step is Step.BODY:
            self._body_answered(code, text)
        elif step is Step.QUIT:
            self._close("")
            return
        elif step is Step.EMPTY:
            assert flight is not None  # noqa: S101
            self._refused(flight)
        elif flight is not None:
            self._envelope_answered(step, flight, code, text)
        if self._unsaid and not self._expected:
            self._say_next()
        self._advance()

    def _body_answered(self, code: int, text: bytes) -> None:
        if not (200 <= code < 300 or 400 <= code < 600):
            self._close(f"the relay mixes up its answers: {code} {outcomes.words(text)}")
            return
        flight, self._current = self._current, None
        assert flight is not None  # noqa: S101
        self.sent += 1
        self._settle(flight.parcel, outcomes.from_reply(code, text, self.relay))
        if code == _CLOSING:
            self._close(f"the relay closes the session: {outcomes.words(text)}")

    def _envelope_answered(self, step: Step, flight: Flight, code: int, text: bytes) -> None:
        agrees = code == 354 if step is Step.DATA else 200 <= code < 300
        if not agrees and not 400 <= code < 600:
            self._close(f"the relay mixes up its answers: {code} {outcomes.words(text)}")
        elif flight.abandoned and not self._pipelining and code != 354:
            self._next, self._reset = None, True
        elif step is Step.DATA:
            if code == 354:
                if flight.refusal is None:
                    flight.ready = True
                else:
                    # Some relays open DATA although every recipient was refused: nothing may be sent (RFC 2920 §3.1).
                    self._write(b".\r\n", TIMEOUT_BODY)
                    self._expected.appendleft((Step.EMPTY, flight))
                return
            if flight.refusal is None:
                flight.refusal = outcomes.from_reply(code, text, self.relay)
            self._reset = True
            self._refused(flight)
        elif code >= 400 and flight.refusal is None:
            flight.refusal = outcomes.from_reply(code, text, self.relay)
            if not self._pipelining:
                # The rest of the envelope is not said, but the transaction it opened has to be ended.
                self._unsaid.clear()
                self._reset = True
                self._refused(flight)

    def _refused(self, flight: Flight) -> None:
        self._next = None
        self.sent += 1
        assert flight.refusal is not None  # noqa: S101
        if not flight.abandoned:
            self._settle(flight.parcel, flight.refusal)

    def _recorded(self) -> None:
        self._unrecorded -= 1
        self._advance()

    def _advance(self) -> None:
        """Start whatever may be started now: a body that is awaited, or an envelope."""
        if self._transport is None:
            return
        if self._quitting:
            self._wind_up()
            return
        if self._next is None and self._current is None:
            self._next = self._take()
            if self._next is None:
                self._rest()
                return
            self._open_envelope(self._next)
        elif self._next is None and self._pipelining and self._flushed and not self.overdue:
            self._next = self._take()
            if self._next is not None:
                self._open_envelope(self._next)
        elif self._next is not None and self._next.ready and self._current is None and not self._unrecorded:
            self._start_body(self._next)

    def _start_body(self, flight: Flight) -> None:
        if flight.abandoned or not flight.parcel.wanted():
            # The relay waits for a body that must not be sent any more. Only closing ends a DATA without a message.
            self.given_up = True
            self._close("the message was called back")
            return
        self._current, self._next = flight, None
        self._expected.append((Step.BODY, flight))
        behind = b""
        if self._pipelining and len(flight.body) <= LONGEST_WITH_RIDER and (following := self._take()) is not None:
            self._next = following
            behind = self._expect_envelope(following)
        self._rider = bool(behind)
        assert self._transport is not None  # noqa: S101
        self.asked_at = self._loop.time()
        self.deadline = self.asked_at + TIMEOUT_BODY
        self._transport.writelines((flight.body, b".\r\n" + behind))  # not joined: that would copy every message
        flight.body = b""

    def _take(self) -> Flight | None:
        while self._left and (parcel := self._feed.take()) is not None:
            if parcel.needs_utf8 and not self._utf8:
                self._settle(parcel, outcomes.cannot_travel(self.relay))
                continue
            try:
                # Before the envelope: a reader whose letter cannot be made must not cost a session.
                body = parcel.message(eight_bit=self._eight_bit)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is this one parcel's fate
                self._settle(parcel, outcomes.cannot_be_made(error))
                continue
            if self._size_limit and len(body) > self._size_limit:
                self._settle(parcel, outcomes.too_large(self.relay, len(body), self._size_limit))
                continue
            self._left -= 1
            return Flight(parcel, body)
        return None

    def _settle(self, parcel: Parcel, outcome: Outcome) -> None:
        self._unrecorded += 1
        parcel.settle(self._feed.judge(parcel, outcome), self._recorded)

    def _expect_envelope(self, flight: Flight) -> bytes:
        """The whole envelope for one write; from now on its answers are expected."""
        expected = self._expected
        reset = b""
        if self._reset:
            self._reset = False
            reset = b"RSET\r\n"
            expected.append((Step.RSET, None))
        expected.append((Step.MAIL, flight))
        expected.append((Step.RCPT, flight))
        expected.append((Step.DATA, flight))
        sender, recipient = self._sender(flight.parcel), flight.parcel.address.encode()
        return b"%bMAIL FROM:%b\r\nRCPT TO:<%b>\r\nDATA\r\n" % (reset, sender, recipient)

    def _sender(self, parcel: Parcel) -> bytes:
        """The reverse path with its parameters: BODY (RFC 6152 §3) and SMTPUTF8 (RFC 6531 §3.4)."""
        body = " BODY=8BITMIME" if self._eight_bit else ""
        return f"<{parcel.return_path}>{body}{' SMTPUTF8' if parcel.needs_utf8 else ''}".encode()

    def _open_envelope(self, flight: Flight) -> None:
        """Say an envelope that rides behind nothing: at once, or command by command without PIPELINING."""
        self.idle_since, self.offered = None, True
        if self._pipelining:
            self._rider = True
            self._write(self._expect_envelope(flight), TIMEOUTENVELOPE if self._current is None else TIMEOUT_BODY)
            return
        if self._reset:
            self._reset = False
            self._unsaid.append((Step.RSET, None, b"RSET\r\n"))
        self._unsaid.append((Step.MAIL, flight, b"MAIL FROM:%b\r\n" % self._sender(flight.parcel)))
        self._unsaid.append((Step.RCPT, flight, b"RCPT TO:<%b>\r\n" % flight.parcel.address.encode()))
        self._unsaid.append((Step.DATA, flight, b"DATA\r\n"))
        if not self._expected:
            self._say_next()

    def _say_next(self) -> None:
        step, flight, command = self._unsaid.popleft()
        self._expected.append((step, flight))
        self._write(command, TIMEOUT_DATA if step is Step.DATA else TIMEOUTENVELOPE)

    def _write(self, data: bytes, timeout: float) -> None:
        assert self._transport is not None  # noqa: S101
        self.asked_at = self._loop.time()
        self.deadline = self.asked_at + timeout
        self._transport.write(data)

    def _rest(self) -> None:
        if not self._left:
            self._quitting = True
            self._wind_up()
            return
        self.deadline = float("inf")
        if self.idle_since is None:
            self.idle_since = self._loop.time()

    def _wind_up(self) -> None:
        if self._current is not None or self._unrecorded or self._transport is None:
            return
        if self._next is not None or self._expected:
            # An envelope is out. Closing is the one way to take it back that every relay understands.
            self._close("")
            return
        self._expected.append((Step.QUIT, None))
        self._write(b"QUIT\r\n", TIMEOUT_QUIT)

    def _close(self, reason: str, *, silent: bool = False) -> None:
        """End the session now, and give everything that was on it the outcome it deserves."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        transport.abort()
        current, following, self._current, self._next = self._current, self._next, None, None
        self._expected.clear()
        self._unsaid.clear()
        if following is not None and not following.abandoned:
            if following.refusal is not None:
                self.sent += 1
                following.parcel.settle(self._feed.judge(following.parcel, following.refusal), _nothing)
            else:
                following.parcel.returns -= 0 < self.sent < FEW
                self._feed.give_back(following.parcel)
        if current is not None:
            whole = self._flushed or self._rider
            after = outcomes.lost_after_last_byte(self.relay, silent=silent)
            outcome = after if whole else outcomes.lost_before_last_byte(self.relay)
            current.parcel.settle(self._feed.judge(current.parcel, outcome), _nothing)
        self._on_closed(self, reason)


def _nothing() -> None:
    """A closed lane has nothing to start once the ledger holds its last answer."""
