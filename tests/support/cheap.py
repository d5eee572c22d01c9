"""Passwords that are hashed by the same function, with next to no work."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher, Type

from dispatcher.people import passwords

CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1, type=Type.ID)


def cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over, hash and compare passwords cheaply in this process."""
    monkeypatch.setattr(passwords, "_HASHER", CHEAP)
    monkeypatch.setattr(passwords, "NOBODY", passwords.NOBODY.replace("m=65536,t=3,p=4", "m=8,t=1,p=1"))
