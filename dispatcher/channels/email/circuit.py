"""A relay's circuit breaker: whether this process offers it mail. Decides only; somebody else connects and sends.

Closed: yes. Open: no, because it does not answer or refuses nearly everything. Half open: one message, to see. So a
relay that is ill costs a probe now and then instead of an attempt of every reader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from dispatcher.channels import CircuitState

#: Failed connections in a row that open the circuit, and refusals by policy (5.7.x) in a row that do.
MOST_FAILURES = 5
MOST_REFUSALS = 5
#: The circuit opens when more than this share of at least so many answers within so many seconds are 4xx.
MOST_DEFERRED = 0.5
LEAST_ANSWERS = 20
WINDOW = 30.0
#: Seconds between probes of an open circuit, over all processes together.
PROBE_EVERY = 15.0
#: Seconds to leave a relay alone after its first, second, … failure to answer while the circuit is closed.
PAUSES = (0.25, 0.5, 1.0, 1.5)
#: Where so large a share of the last refusals comes from one domain, it is that domain's trouble and not the relay's.
LAST = 20
ONE_DOMAIN = 0.8


class Circuit:
    """One relay's circuit in one process. `clock` counts seconds, monotonically."""

    def __init__(self, clock: Callable[[], float], on_change: Callable[[], None]) -> None:
        """`on_change` is called after every change of `state`."""
        self.state = CircuitState.CLOSED
        self.reason = ""
        self.since = datetime.now(UTC)
        self._clock = clock
        self._on_change = on_change
        self.unreachable = False  #: it was opened because there was no session, not because of what was said in one
        self._failures = 0
        self._refusals = 0
        self._overloaded = False  # opened because most answers were 4xx: then one yes says nothing
        self._answers = 0
        self._deferred = 0
        self._bad_addresses = 0
        #: The counts a second apart, over the window.
        self._moments: deque[tuple[float, int, int, int]] = deque([(clock(), 0, 0, 0)])
        self._domains: deque[str] = deque(maxlen=LAST)
        self._not_before = 0.0
        self._on_trial = False

    @property
    def may_connect(self) -> bool:
        """True if a session may be opened now without asking anybody."""
        return self.state is not CircuitState.OPEN and self._clock() >= self._not_before

    @property
    def may_probe(self) -> bool:
        """True if a probe is due, as far as this process can tell."""
        return self.state is CircuitState.OPEN and self._clock() >= self._not_before

    @property
    def pause(self) -> float:
        """Seconds until `may_connect` or `may_probe`."""
        return max(0.0, self._not_before - self._clock())

    @property
    def failing(self) -> bool:
        """True after a failed connection, until a message is answered: one session tries, the others wait."""
        return self._failures > 0

    def take(self) -> bool:
        """May one more message be offered? Half open, only one at a time is."""
        if self.state is CircuitState.CLOSED:
            return True
        if self.state is CircuitState.OPEN or self._on_trial:
            return False
        self._on_trial = True
        return True

    def untake(self) -> None:
        """The message was not offered after all."""
        self._on_trial = False

    def probe(self) -> None:
        """Go half open: the next session, and the next message on it, decide."""
        if self.state is CircuitState.OPEN:
            self._on_trial = False
            self._not_before = 0.0
            self._become(CircuitState.HALF_OPEN, self.reason)

    def failed(self, why: str, *, silent: bool = False) -> None:
        """A session could not be opened, or ended before it answered a message, and no other did better.

        `silent`: the relay was given long to answer, and did not. That weighs as much as many quick refusals.
        """
        self._failures += MOST_FAILURES if silent else 1
        if self.state is CircuitState.HALF_OPEN or self._failures >= MOST_FAILURES:
            self._open(why, unreachable=True)
        elif self.state is CircuitState.CLOSED:
            self._not_before = self._clock() + PAUSES[min(self._failures, len(PAUSES)) - 1]
            self.reason = why

    def accepted(self) -> None:
        """A message was accepted. One that was on its way when most were refused does not close the circuit."""
        self._answers += 1
        self._refusals = 0
        if self._failures:
            self._works()
        if self.state is CircuitState.HALF_OPEN or (self.state is CircuitState.OPEN and not self._overloaded):
            self._close()

    def failed_for_good(self, *, bad_address: bool) -> None:
        """A message was refused for a reason of its own (5xx): the relay is well."""
        self._answers += 1
        self._works()
        self._bad_addresses += bad_address
        if self.state is CircuitState.HALF_OPEN:
            self._close()

    def refused(self, reply: str) -> None:
        """A message was refused by policy (5.7.x): it is us whom the relay does not want, or its reader does not."""
        self._answers += 1
        self._works()
        self._refusals += 1
        if self.state is CircuitState.HALF_OPEN or self._refusals >= MOST_REFUSALS:
            self._open(f"it refuses our mail: {reply}")

    def deferred(self, reply: str, domain: str, *, too_much: bool = False) -> None:
        """A message was refused for now (4xx); `too_much`: because its domain is to get less, which is seen to."""
        self._answers += 1
        self._works()
        self._deferred += 1
        self._domains.append(domain)
        if self.state is CircuitState.HALF_OPEN:
            self._open(f"it refuses mail for now: {reply}")
        elif self._refuses_most(too_much=too_much):
            self._open(f"it refuses most mail for now: {reply}", overloaded=True)

    def lost(self) -> None:
        """A message on trial ended without an answer, or gets none for long."""
        if self.state is CircuitState.HALF_OPEN and self._on_trial:
            self._open(self.reason)

    def tick(self) -> None:
        """Once a second: remember where the counts stood."""
        now = self._clock()
        self._moments.append((now, self._answers, self._deferred, self._bad_addresses))
        while self._moments[0][0] < now - WINDOW:
            self._moments.popleft()

    @property
    def believes_bad_addresses(self) -> bool:
        """False while most answers call an address bad: then it is more likely the relay that is wrong."""
        answers, _, bad = self._recent()
        return answers < LEAST_ANSWERS or bad <= MOST_DEFERRED * answers

    def _refuses_most(self, *, too_much: bool) -> bool:
        answers, deferred, _ = self._recent()
        if self.state is not CircuitState.CLOSED or answers < LEAST_ANSWERS or deferred <= MOST_DEFERRED * answers:
            return False
        one_domain = max((self._domains.count(domain) for domain in set(self._domains)), default=0)
        return one_domain < ONE_DOMAIN * len(self._domains) or (deferred == answers and not too_much)

    def _recent(self) -> tuple[int, int, int]:
        """Answers, 4xx and bad addresses within the window."""
        _, answers, deferred, bad = self._moments[0]
        return self._answers - answers, self._deferred - deferred, self._bad_addresses - bad

    def _works(self) -> None:
        """The relay answers: what was said about its connections no longer holds."""
        self._failures = 0
        if self.state is CircuitState.CLOSED:
            self.reason = ""

    def _open(self, why: str, *, overloaded: bool = False, unreachable: bool = False) -> None:
        self._not_before = self._clock() + PROBE_EVERY
        self._on_trial = False
        self._overloaded = overloaded
        self.unreachable = unreachable
        self._become(CircuitState.OPEN, why)

    def _close(self) -> None:
        self._failures = self._refusals = 0
        self._not_before = 0.0
        self._moments.clear()
        self._moments.append((self._clock(), self._answers, self._deferred, self._bad_addresses))
        self._domains.clear()
        self._on_trial = False
        self._become(CircuitState.CLOSED, "")

    def _become(self, state: CircuitState, reason: str) -> None:
        before, self.state, self.reason = self.state, state, reason
        if CircuitState.CLOSED in (before, state):
            self.since = datetime.now(UTC)
        if before is not state:
            self._on_change()
