"""(e): a relay whose answers take 20 and 100 ms to come, over ten lanes, beside the plain dialogue over as many."""

from __future__ import annotations

from tests.benchmarks import raw
from tests.benchmarks.figures import Aim, Figure
from tests.benchmarks.installation import bench
from tests.benchmarks.plan import Found, Plan
from tests.benchmarks.programs import delayed, own_sink

LANES = 10
#: Round trip in ms: mails that we send, and that the plain dialogue sends, in about seven seconds.
ROUND_TRIPS = {20: (3_000, 800), 100: (700, 160)}
TARGET_AT, TARGET = 20, 3.0


def distance(plan: Plan) -> Found:
    """One worker process with ten lanes, through a proxy that holds every byte back."""
    result = Found()
    for rtt, (mails, plain_mails) in ROUND_TRIPS.items():
        if plan.quick and rtt != TARGET_AT:
            continue
        ours, plain, limit = [], [], []
        for run in plan.each_run():
            plan.note(f"a relay {rtt} ms away, run {run}")
            ours_now, plain_now = plan.pick(mails, mails // 2), plan.pick(plain_mails, plain_mails // 2)
            with own_sink() as sink, delayed(sink.port, rtt) as port:
                ours.append(float(bench(port, ours_now, size_kb=20, lanes=LANES, processes=1)["per_second"]))
                plain.append(raw.send(port, plain_now, lanes=LANES, plain=True)["per_second"])
                limit.append(raw.send(port, ours_now, lanes=LANES)["per_second"])
        for rival, theirs in (("plain dialogue", plain), ("raw client", limit)):
            aims = rtt == TARGET_AT and rival == "plain dialogue"
            result.figures.append(
                Figure(
                    part="distance",
                    name=f"{rtt} ms round trip",
                    unit="mails/s",
                    ours=ours,
                    rival=rival,
                    theirs=theirs,
                    aim=Aim.RATIO_AT_LEAST if aims else None,
                    target=TARGET if aims else None,
                )
            )
    return result
