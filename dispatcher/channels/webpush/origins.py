"""How one process finds one push service: whether it answers, how quickly, and how much it wants. Decides only.

Services are told apart by origin. One that is away, slow or overloaded may cost its own readers time, and nobody else.
"""

from __future__ import annotations

import enum
import re
from datetime import UTC, datetime

from dispatcher.channels import CircuitState

#: Pushes in a row without an answer after which a service is left alone, for so many seconds; then one push tries.
MOST_FAILURES = 5
UNREACHABLE_WAIT = 15.0
#: Seconds for an answer after which a service counts as slow: then it has lanes of its own, beside everybody's.
SLOW_AFTER = 1.0
#: "Too many" may be meant for one device alone. Has the service taken other pushes within so many seconds, it is left
#: alone only so long, until a second device is told the same.
LATELY = 10.0
ONE_DEVICE_WAIT = 1.0
#: Devices in a row that are gone after which it is more likely the service that is wrong.
MOST_GONE = 50
NO_LIMIT = 1_000_000


class Hold(enum.Enum):
    """Why a service is left alone."""

    NONE = ""
    UNREACHABLE = "unreachable"
    TOO_MANY = "too many"


class Origin:
    """One push service in one process. All times are seconds on one monotonic clock."""

    def __init__(self, name: str) -> None:
        self.name = name  #: scheme, host, and perhaps port
        self.relay = re.sub(r":[0-9]+$", "", name.rpartition("//")[2].rpartition("@")[2])
        self.refused = ""  #: why nothing may be sent there at all
        self.reason = ""  #: why it is left alone
        self.hold = Hold.NONE
        self.held_until = 0.0
        self.slow = False
        self.since = datetime.now(UTC)
        self.used_at = 0.0
        self.on_the_way: dict[object, float] = {}  #: each push, and since when; the oldest first
        self._failures = 0
        self._gone = 0
        self._accepted_at = float("-inf")
        self._complained: set[object] = set()  # devices that were told "too many" since a push was last accepted

    @property
    def circuit(self) -> CircuitState:
        """As for relays: closed while pushes are offered, half open while one tries."""
        if self.hold is Hold.NONE:
            return CircuitState.CLOSED
        return CircuitState.HALF_OPEN if self.held_until == 0 else CircuitState.OPEN

    @property
    def limited(self) -> bool:
        """True while only so many pushes may be on their way."""
        return self.slow or (self.hold is Hold.UNREACHABLE and not self.held_until)

    def held_for(self, now: float) -> float:
        """Seconds for which nothing is to be offered; 0 if something may be."""
        return max(0.0, self.held_until - now)

    def room(self, lanes: int) -> int:
        """How many more pushes may be on their way. `lanes` are those that all services share."""
        if self.hold is Hold.UNREACHABLE and not self.held_until:
            return 1 - len(self.on_the_way)
        return max(1, lanes // 2) - len(self.on_the_way) if self.slow else NO_LIMIT

    def start(self, push: object, now: float) -> None:
        self.on_the_way[push] = self.used_at = now

    def end(self, push: object, now: float) -> None:
        """The push is no longer on its way, whatever became of it."""
        if now - self.on_the_way.pop(push, now) < SLOW_AFTER and self.slow:
            self.slow = self._hangs(now)

    def answered(self) -> bool:
        """The service has said something. True if it was taken for unreachable until now."""
        self._failures = 0
        if self.hold is not Hold.UNREACHABLE:
            return False
        self._release()
        return True

    def accepted(self, now: float) -> None:
        self._accepted_at = now
        self._gone = 0
        self._complained.clear()

    def gone(self) -> bool:
        """One more device is gone, it says. False if it says so too often to be believed."""
        self._gone += 1
        return self._gone <= MOST_GONE

    def no_answer(self, reason: str, now: float) -> bool:
        """A push had no connection or no answer. True if the service is left alone from now on because of it."""
        self._failures += 1
        if self.held_for(now):
            return False
        on_trial = self.hold is Hold.UNREACHABLE and not self.held_until
        if self._failures < MOST_FAILURES and not on_trial:
            return False
        self._leave_alone(Hold.UNREACHABLE, f"{self.relay} cannot be reached: {reason}", now + UNREACHABLE_WAIT)
        return True

    def too_many(self, device: object, wait: float, now: float) -> None:
        """A push was refused because there are too many, for `wait` seconds."""
        self._complained.add(device)
        if len(self._complained) == 1 and now - self._accepted_at < LATELY:
            wait = min(wait, ONE_DEVICE_WAIT)
        if now + wait > self.held_until:
            self._leave_alone(Hold.TOO_MANY, f"{self.relay} takes no more for now", now + wait)

    def look(self, now: float) -> bool:
        """See what time has changed. True if the service may be offered pushes again."""
        self.slow = self.slow or self._hangs(now)
        if not self.held_until or now < self.held_until:
            return False
        if self.hold is Hold.UNREACHABLE:
            self.held_until = 0.0  # one push may try
        else:
            self._release()
        return True

    def try_again(self) -> None:
        """Somebody says that it answers again: let one push try."""
        if self.hold is Hold.UNREACHABLE:
            self.held_until = 0.0

    def _hangs(self, now: float) -> bool:
        oldest = next(iter(self.on_the_way.values()), now)
        return now - oldest >= SLOW_AFTER

    def _leave_alone(self, hold: Hold, reason: str, until: float) -> None:
        self.hold, self.reason, self.held_until = hold, reason, until
        self.since = datetime.now(UTC)

    def _release(self) -> None:
        self._leave_alone(Hold.NONE, "", 0.0)
