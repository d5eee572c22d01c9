"""What a password costs whoever tries one: as much for an account that does not exist."""

from __future__ import annotations

import statistics
import time

import pytest

from dispatcher import db, people
from dispatcher.people import passwords
from tests.actions.test_people import PASSWORD, join, signed_in


async def test_an_account_that_does_not_exist_takes_as_long_as_one_that_does(database: db.Database) -> None:
    for number in range(3):
        await join(database, f"reader{number}@courier.example")

    async def seconds(email: str) -> float:
        # Of processors: what else this machine does takes nothing away from that.
        begun = time.process_time()
        with pytest.raises(people.SignInRefused):
            await signed_in(database, email, "not the password")
        return time.process_time() - begun

    known, unknown = [], []
    for number in range(9):
        known.append(await seconds(f"reader{number % 3}@courier.example"))
        unknown.append(await seconds(f"nobody{number % 3}@courier.example"))

    assert 0.67 < statistics.median(known) / statistics.median(unknown) < 1.5


async def test_the_comparison_for_nobody_is_as_much_work_as_any_and_never_fits() -> None:
    assert not await passwords.fits("", None)
    assert not await passwords.fits(PASSWORD, None)
    assert passwords.NOBODY.split("$")[:4] == (await passwords.hashed(PASSWORD)).split("$")[:4]
