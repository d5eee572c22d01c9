"""How many messages for one recipient domain are on their way at once, once that domain has asked for less.

The feedback is Postfix's: start with 5, halve when the domain says that it is too much, one more for every round of
successes, 20 at most. A domain that never complained is not limited, for a relay takes mail for all domains alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

START = 5
MOST = 20
#: Complaints within so many seconds of each other are one: they answer what was on its way together.
ONE_COMPLAINT = 1.0
#: Seconds without a complaint after which a domain is free again.
FORGET_AFTER = 600.0


class Domain:
    """One domain that complained."""

    __slots__ = ("admitted", "complained_at", "limit", "on_the_way", "successes")

    def __init__(self, now: float) -> None:
        self.limit = START
        self.on_the_way = 0
        self.admitted: Counter[str] = Counter()  # whose: what set out before the complaint is not counted when it ends
        self.successes = 0
        self.complained_at = now


class Domains:
    """The limits of one process. `share` says how much of a limit, over all processes, is this one's."""

    def __init__(self, clock: Callable[[], float], share: Callable[[int], int]) -> None:
        self.limited: dict[str, Domain] = {}
        self._clock = clock
        self._share = share

    def admit(self, address: str) -> str:
        """Count one more message on its way. The domain, if there may be no more for it just now; else empty."""
        name = domain_of(address)
        domain = self.limited.get(name)
        if domain is None:
            return ""
        if domain.on_the_way >= self._share(domain.limit):
            return name
        domain.on_the_way += 1
        domain.admitted[address] += 1
        return ""

    def leave(self, address: str, *, success: bool = False) -> tuple[str, int]:
        """A message is no longer on its way. Its domain, and how many more may now be on their way to it."""
        name = domain_of(address)
        domain = self.limited.get(name)
        if domain is None:
            return name, 0
        if domain.admitted[address]:
            domain.on_the_way -= 1
            domain.admitted[address] -= 1
        if not domain.admitted[address]:
            del domain.admitted[address]
        if success:
            domain.successes += 1
            if domain.successes >= domain.limit:
                domain.successes = 0
                domain.limit = min(MOST, domain.limit + 1)
        return name, self._share(domain.limit) - domain.on_the_way

    def complain(self, address: str) -> None:
        """The domain says that it is too much (421, 4.7.x)."""
        name = domain_of(address)
        domain = self.limited.get(name)
        now = self._clock()
        if domain is None:
            self.limited[name] = Domain(now)
            return
        if now - domain.complained_at < ONE_COMPLAINT:
            return
        domain.limit = max(1, domain.limit // 2)
        domain.successes = 0
        domain.complained_at = now

    def room(self) -> list[tuple[str, int]]:
        """Limited domains, and how many more messages may be on their way to each."""
        return [
            (name, room)
            for name, domain in self.limited.items()
            if (room := self._share(domain.limit) - domain.on_the_way) > 0
        ]

    def forget(self) -> list[str]:
        """Free the domains that have not complained for long. Says which."""
        past = self._clock() - FORGET_AFTER
        free = [name for name, domain in self.limited.items() if domain.complained_at < past]
        for name in free:
            del self.limited[name]
        return free


def domain_of(address: str) -> str:
    """The domain of an address, in lower case."""
    return address.rpartition("@")[2].lower()
