"""The simulation agrees with what can be worked out by hand, and the plan adds up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks import planning
from tests.benchmarks.figures import Figure, Report
from tests.benchmarks.programs import ROOT
from tests.benchmarks.simulation import Setting, comparisons, friction, here, machine_rate, simulate

COSTS = {
    "worker_us": 75.0,
    "database_us": 45.0,
    "wal_bytes": 571.0,
    "ledger_bytes": 144.0,
    "cut_us": 1.2,
    "import_us": 22.0,
    "first_ms": 70.0,
    "two_processes_per_second": 9000.0,
}
FAR = Setting(mails=2_000, processes=1, lanes=10, worker_us=1, database_us=1, rtt_ms=100, relay_us=0)


def test_far_away_each_lane_sends_one_mail_a_round_trip() -> None:
    assert simulate(FAR).per_second(FAR.mails) == pytest.approx(100, rel=0.05)


def test_close_by_the_processors_are_the_limit_and_all_their_time_is_used() -> None:
    near = Setting(mails=10_000, processes=4, lanes=32, worker_us=100, database_us=50, rtt_ms=0, relay_us=10, cores=2)

    outcome = simulate(near)
    used = near.mails * (near.worker_us + near.relay_us + near.database_us) / 1e6

    assert outcome.seconds >= used / 2 * 0.9
    assert outcome.seconds == pytest.approx(used / 2, rel=0.25)


def test_one_process_sends_no_faster_than_it_can_work() -> None:
    alone = Setting(mails=5_000, processes=1, lanes=32, worker_us=100, database_us=20, rtt_ms=0, cores=8)

    assert simulate(alone).per_second(5_000) <= 1e6 / 100


def test_the_same_simulation_gives_the_same_result() -> None:
    assert simulate(FAR) == simulate(FAR)


@pytest.mark.parametrize("wrong", [{"mails": 0}, {"lanes": 0}, {"processes": 0}])
def test_a_simulation_of_nothing_is_refused(wrong: dict[str, int]) -> None:
    setting = {"mails": 1, "processes": 1, "lanes": 1, "worker_us": 1.0, "database_us": 1.0, **wrong}

    with pytest.raises(ValueError, match="needs"):
        simulate(Setting(**setting))  # type: ignore[arg-type]


def test_it_is_held_against_every_run_that_was_measured() -> None:
    figures = (
        Figure(part="distance", name="100 ms round trip", unit="mails/s", ours=[90.0]),
        Figure(part="latency", name="1 reader", unit="ms", ours=[90.0]),
    )

    found = comparisons(Report(figures, COSTS))

    assert [each.name for each in found] == ["100 ms round trip"]
    assert abs(found[0].off) < 25


def test_what_it_learnt_from_one_run_makes_it_foretell_that_run() -> None:
    setting = here(COSTS).slowed(friction(COSTS))

    assert simulate(setting).per_second(setting.mails) == pytest.approx(COSTS["two_processes_per_second"], rel=0.05)


def test_ten_times_the_readers_in_the_same_time_need_about_ten_times_everything() -> None:
    site = planning.Site(cores=2)
    rates = {lanes: machine_rate(COSTS, site, lanes) for lanes in (10, 64)}
    small, large = (planning.plan(COSTS, site, rates, planning.Goal(readers, 30)) for readers in (10**7, 10**8))

    assert 8 <= (large.machines - 1) / (small.machines - 1) <= 12
    assert large.ledger_gb == pytest.approx(10 * small.ledger_gb)
    assert small.last_minutes <= 30
    assert large.last_minutes <= 30
    assert rates[10] < rates[64]


def test_it_asks_for_the_figures_that_it_lacks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.simulation", "--figures", str(tmp_path / "none.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "run `make bench` first" in done.stderr
