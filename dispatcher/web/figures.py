"""The figures of the whole installation, for Prometheus: read from Postgres when somebody asks, and not too often.

However large the ledger is, a scrape ends within two seconds, and counting for scrapes costs one processor of the
database no more than a twentieth of its time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import accumulate

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

import dispatcher
from dispatcher import db, monitoring
from dispatcher.model import BlastState, DeliveryState, Urgency

log = structlog.get_logger()

#: Seconds that a scrape waits for figures that are being read; then it shows those it had before.
PATIENCE = 0.8
#: Figures are read again at the earliest after so many seconds, and so many times as long as reading them took.
FRESH = 5.0
REST = 20.0
#: Seconds that reading may take in the background.
MOST_READING = 30.0

#: Figures of the work that is under way: column, metric, what it says.
WORK = (
    ("stories_developing", "dispatcher_stories_developing", "Stories that are developing."),
    ("blasts_open", "dispatcher_blasts_open", "Blasts that are not done nor cancelled."),
    ("batches_waiting", "dispatcher_batches_waiting", "Batches that wait for a worker."),
    ("batches_leased", "dispatcher_batches_leased", "Batches that are with a worker."),
    ("batches_dead", "dispatcher_batches_dead", "Batches that were given up: somebody has to look."),
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
    (
        "deliveries_due",
        "dispatcher_deliveries_due",
        f"Deliveries whose next try is due, and which are in no batch yet; {monitoring.MOST_DUE} stands for more.",
    ),
    ("notices_waiting", "dispatcher_notices_waiting", "Mails that single readers asked for and were not sent yet."),
)
READERSHIP = (
    ("subscribers", "dispatcher_subscribers", "Readers that are known."),
    ("subscriptions_active", "dispatcher_subscriptions_active", "Confirmed subscriptions that have not ended."),
)
#: These states may still become others; all the rest are final.
UNSETTLED = (DeliveryState.DEFERRED, DeliveryState.IN_DOUBT)


class Figures:
    """What one web process knows of the installation, for as long as it runs."""

    def __init__(self, database: db.Database) -> None:
        async def parts() -> list[Metric]:
            return list(_parts(await monitoring.parts(database, MOST_READING)))

        async def work() -> list[Metric]:
            return list(_work(await monitoring.work(database, MOST_READING)))

        async def readership() -> list[Metric]:
            return list(_plain(READERSHIP, await monitoring.readership(database, MOST_READING)))

        async def deliveries() -> list[Metric]:
            return list(_deliveries(await monitoring.deliveries(database, MOST_READING)))

        # At most two connections of the pool are in use for figures, and what is slow keeps only its like waiting.
        quick, slow = asyncio.Lock(), asyncio.Lock()
        self._parts = Reading("parts", parts, quick, rest=0)
        self._others = (
            Reading("work", work, quick),
            Reading("readership", readership, slow),
            Reading("deliveries", deliveries, slow),
        )

    async def scrape(self) -> Collector:
        """The figures of this moment, or of a few seconds ago, in the shape that the Prometheus client writes."""
        await self._parts.refresh(PATIENCE)
        is_up = not self._parts.is_late
        if is_up:
            await asyncio.gather(*(reading.refresh(PATIENCE) for reading in self._others))
        info = GaugeMetricFamily("dispatcher_info", "Always 1; the label tells the version.", labels=["version"])
        info.add_metric([dispatcher.__version__], 1)
        up = GaugeMetricFamily("dispatcher_database_up", "Whether the database answers.", value=is_up)
        readings = (self._parts, *self._others) if is_up else ()
        return _Shown([info, up, *_ages(readings), *(metric for reading in readings for metric in reading.metrics)])

    async def close(self) -> None:
        """End what is still being read."""
        await asyncio.gather(*(reading.close() for reading in (self._parts, *self._others)))


class Reading:
    """Figures that are read together: by one task at a time, and kept for those who ask next."""

    def __init__(
        self, name: str, read: Callable[[], Awaitable[list[Metric]]], turn: asyncio.Lock, rest: float = REST
    ) -> None:
        """One reading at a time is done of those that share a `turn`. After each, `rest` times as long is none done."""
        self.name = name
        self.metrics: list[Metric] = []
        self.is_late = False  #: whether the figures could not be read when it was time, or not soon enough
        self._read = read
        self._turn = turn
        self._rest = rest
        self._task: asyncio.Task[None] | None = None
        self._read_at: float | None = None
        self._next = 0.0

    @property
    def age(self) -> float | None:
        """Seconds since these figures were true, None if there are none."""
        return None if self._read_at is None else time.monotonic() - self._read_at

    async def refresh(self, patience: float) -> None:
        """Read anew if it is time. Waits so many seconds at most; reading goes on, and ends for a later scrape."""
        if self._task is None and time.monotonic() >= self._next:
            self._task = asyncio.create_task(self._run())
        if self._task is not None and not (await asyncio.wait({self._task}, timeout=patience))[0]:
            self.is_late = True

    async def close(self) -> None:
        """End what is still being read."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with self._turn:
            began = time.monotonic()
            try:
                self.metrics = await self._read()
            except Exception as error:  # noqa: BLE001  # whatever it was, figures are missing, and a metric says so
                if not self.is_late or self._read_at is None:
                    log.error("figures cannot be read", figures=self.name, reason=str(error).split("\n")[0])
                self.is_late = True
            else:
                self.is_late, self._read_at = False, began
            finally:
                took = time.monotonic() - began
                self._next = time.monotonic() + max(0 if self.is_late else FRESH, self._rest * took)
                self._task = None


def _ages(readings: Iterable[Reading]) -> Iterator[Metric]:
    age = GaugeMetricFamily("dispatcher_figures_age_seconds", "How old these figures are.", labels=["figures"])
    late = GaugeMetricFamily(
        "dispatcher_figures_late",
        "1 if these figures could not be read in time: they are older than they should be, or missing.",
        labels=["figures"],
    )
    for reading in readings:
        if reading.age is not None:
            age.add_metric([reading.name], reading.age)
        late.add_metric([reading.name], float(reading.is_late))
    yield from (age, late)


class _Shown(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        yield from self._families


def _plain(names: tuple[tuple[str, str, str], ...], row: db.Row) -> Iterator[Metric]:
    for column, name, text in names:
        yield GaugeMetricFamily(name, text, value=float(row[column]))


def _parts(row: db.Row) -> Iterator[Metric]:
    yield GaugeMetricFamily("dispatcher_workers_alive", "Worker processes that live.", value=row["workers"])
    circuit = GaugeMetricFamily(
        "dispatcher_relay_circuit", "How many worker processes find a relay so.", labels=["relay", "state"]
    )
    lanes = GaugeMetricFamily(
        "dispatcher_relay_lanes",
        "Connections to a relay: open, busy with a message, and overdue, waiting for its answer for long.",
        labels=["relay", "state"],
    )
    for relay in row["relays"]:
        for state in ("closed", "open", "half_open"):
            circuit.add_metric([relay["relay"], state], relay[state])
        for state, column in (("open", "lanes"), ("busy", "busy"), ("overdue", "overdue")):
            lanes.add_metric([relay["relay"], state], relay[column])
    yield from (circuit, lanes)
    incidents = GaugeMetricFamily("dispatcher_incidents_open", "Incidents that are open.", labels=["kind"])
    for kind in monitoring.IncidentKind:
        incidents.add_metric([str(kind)], row["incidents"].get(kind, 0))
    yield incidents


def _work(row: db.Row) -> Iterator[Metric]:
    yield from _plain(WORK, row)
    states = GaugeMetricFamily("dispatcher_blasts_by_state", "Blasts of the last day by state.", labels=["state"])
    for state in BlastState:
        states.add_metric([str(state)], row["blasts_by_state"].get(state, 0))
    yield states
    readers = GaugeMetricFamily(
        "dispatcher_readers_waiting", "Readers in batches that wait or are with a worker.", labels=["urgency"]
    )
    oldest = GaugeMetricFamily(
        "dispatcher_oldest_waiting_seconds",
        "Age of the oldest work that waits or is with a worker.",
        labels=["urgency"],
    )
    found = {each["urgency"]: each for each in row["urgencies"]}
    for urgency in Urgency:
        each = found.get(urgency, {"readers": 0, "seconds": 0.0})
        readers.add_metric([urgency.name.lower()], each["readers"])
        oldest.add_metric([urgency.name.lower()], each["seconds"])
    yield from (readers, oldest)


def _deliveries(channels: dict[str, list[monitoring.Count]]) -> Iterator[Metric]:
    labels = ["channel", "relay", "state"]
    settled = CounterMetricFamily(
        "dispatcher_deliveries", "Readers with an outcome that is final, of all blasts ever.", labels=labels
    )
    unsettled = GaugeMetricFamily(
        "dispatcher_deliveries_unsettled",
        "Readers who are deferred or in doubt, of all blasts ever: that may change.",
        labels=labels,
    )
    histogram = HistogramMetricFamily(
        "dispatcher_publish_to_accepted_seconds",
        "Seconds from the publish commit until a relay accepted a message.",
        labels=["channel"],
    )
    for channel, counts in sorted(channels.items()):
        slots = [0] * (len(monitoring.BOUNDS) + 1)
        seconds = 0.0
        for count in counts:
            family = unsettled if count.state in UNSETTLED else settled
            family.add_metric([channel, count.relay, count.state], count.readers)
            if count.buckets:
                slots = [sum(pair) for pair in zip(slots, count.buckets, strict=True)]
                seconds += count.seconds or 0.0
        bounds = [*map(str, monitoring.BOUNDS), "+Inf"]
        histogram.add_metric([channel], list(zip(bounds, accumulate(slots), strict=True)), seconds)
    yield from (settled, unsettled, histogram)
