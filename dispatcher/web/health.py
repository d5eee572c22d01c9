"""For machines: is the process up, can it work, how is the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import dispatcher
from dispatcher import db, reporting
from dispatcher.errors import DatabaseUnavailable
from dispatcher.web.front import front

#: Seconds that machines wait for the database to answer: they ask again soon, and rather know.
WITHIN = 2.0

#: Figures of the fleet: column, metric, what it says.
GAUGES = (
    ("stories_developing", "dispatcher_stories_developing", "Stories that are developing."),
    ("subscribers", "dispatcher_subscribers", "Readers that are known."),
    ("subscriptions_active", "dispatcher_subscriptions_active", "Confirmed subscriptions that have not ended."),
    ("blasts_open", "dispatcher_blasts_open", "Blasts that are not done."),
    ("batches_waiting", "dispatcher_batches_waiting", "Batches that wait for a worker, or are with one."),
    ("batches_dead", "dispatcher_batches_dead", "Batches that were given up: somebody has to look."),
    ("readers_in_batches", "dispatcher_readers_waiting", "Readers in batches that wait or are with a worker."),
    (
        "oldest_blast_seconds",
        "dispatcher_oldest_blast_seconds",
        "Age of the oldest blast that is not done nor paused, from its publish commit.",
    ),
    (
        "oldest_batch_seconds",
        "dispatcher_oldest_due_batch_seconds",
        "How long the oldest batch that is due has waited for a worker.",
    ),
    ("deliveries_due", "dispatcher_deliveries_due", "Deferred deliveries whose next try is due."),
)


async def healthz(_: Request) -> Response:
    """`/healthz`: this process answers. It asks nobody else."""
    return JSONResponse({"status": "up", "version": dispatcher.__version__})


async def readyz(request: Request) -> Response:
    """`/readyz`: this process can do its work, or 503 with what is missing."""
    try:
        async with asyncio.timeout(WITHIN):
            await reporting.ready(front(request).database)
    except TimeoutError as error:
        raise DatabaseUnavailable(f"The database did not answer within {WITHIN:g} seconds.") from error
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """`/metrics`: the fleet as Postgres knows it at this moment, and this process, for Prometheus."""
    try:
        async with asyncio.timeout(WITHIN):
            fleet: db.Row | None = await reporting.fleet(front(request).database)
    except (DatabaseUnavailable, TimeoutError):
        fleet = None
    registry = CollectorRegistry()
    registry.register(_Fleet(fleet))
    ProcessCollector(registry=registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Fleet:
    """One moment's figures, in the shape that the Prometheus client writes."""

    def __init__(self, fleet: db.Row | None) -> None:
        self.fleet = fleet

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("dispatcher_info", "Always 1; the label tells the version.", labels=["version"])
        info.add_metric([dispatcher.__version__], 1)
        yield info
        up = 0 if self.fleet is None else 1
        yield GaugeMetricFamily("dispatcher_database_up", "Whether the database answered this very scrape.", value=up)
        if self.fleet is None:
            return
        for column, name, text in GAUGES:
            yield GaugeMetricFamily(name, text, value=float(self.fleet[column]))
        yield _by_label(
            "dispatcher_blasts_by_state",
            "Blasts of the last day by state.",
            "state",
            self.fleet["blasts_by_state"],
        )
        yield _by_label(
            "dispatcher_deliveries_by_state",
            "Deliveries of the blasts of the last day by state.",
            "state",
            self.fleet["deliveries_by_state"],
        )


def _by_label(name: str, text: str, label: str, counts: dict[str, Any]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], float(count))
    return family
