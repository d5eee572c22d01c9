"""Passwords: argon2id (RFC 9106), in threads of their own, and as slow for accounts that do not exist."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from dispatcher.errors import Invalid, Unavailable

SHORTEST = 12
LONGEST = 200
#: Different characters at least: "aaaaaaaaaaaa" is long and no password.
FEWEST_DIFFERENT = 5
#: RFC 9106 §4, the second recommended choice: 64 MiB, three passes, four lanes.
MEMORY_KIB, PASSES, LANES = 65536, 3, 4
#: Passwords that are worked on at once, and those that may wait for it: each takes 64 MiB and a part of a second.
AT_ONCE = 2
MOST_WAITING = 40

_HASHER = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=LANES, type=Type.ID)
_THREADS = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="password")


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode().rstrip("=")


#: What is compared with where there is nothing to compare with: as much work as any, and no password fits.
NOBODY = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${_b64(bytes(16))}${_b64(bytes(32))}"


class Busy(Unavailable):
    """Too many are signing in just now."""

    remedy = "Try again in a few seconds."


class _Queue:
    """How many wait for their password to be worked on, in this process."""

    waiting = 0


async def hashed(password: str) -> str:
    """What is kept of a password. Raises `Busy`."""
    return str(await _work(password, None))


async def fits(password: str, kept: str | None) -> bool:
    """Whether a password is the one that this was kept of; None takes as long, and never fits. Raises `Busy`."""
    return bool(await _work(password, kept or NOBODY))


def check(password: str, *, email: str, name: str = "") -> str:
    """A password that may be used. Raises `Invalid`."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise Invalid(
            f"The password has {len(password)} characters.",
            remedy=f"Take {SHORTEST} to {LONGEST}; four words in a row are a good one.",
            field="password",
        )
    if len(set(password)) < FEWEST_DIFFERENT:
        raise Invalid(
            "The password repeats itself.", remedy="Take one with more different characters.", field="password"
        )
    bare = password.casefold()
    if bare in {email.casefold(), name.casefold()} or bare == email.partition("@")[0].casefold():
        raise Invalid("The password is your own name.", remedy="Take one that nobody knows you by.", field="password")
    return password


async def _work(password: str, kept: str | None) -> str | bool:
    if _Queue.waiting >= MOST_WAITING:
        raise Busy
    _Queue.waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_THREADS, _slowly, password, kept)
    finally:
        _Queue.waiting -= 1


def _slowly(password: str, kept: str | None) -> str | bool:
    # Nobody types a lone surrogate or a megabyte, and argon2 must take as long for whoever sends one.
    raw = password[:LONGEST].encode(errors="replace") if len(password) <= LONGEST else b"\0"
    if kept is None:
        return _HASHER.hash(raw)
    try:
        return _HASHER.verify(kept, raw)
    except (VerificationError, InvalidHashError):
        return False
