"""The doorbell: the one place that puts a nudge on the broker, by task name.

A nudge says "there is work", never what the work is. It may be lost, repeated or late: the reconciler rings again.
So ringing never blocks a caller for long and never fails it.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum

import structlog
from celery import Celery
from kombu import Queue  # type: ignore[attr-defined]
from kombu.exceptions import OperationalError

from dispatcher.model import URGENT

log = structlog.get_logger()

#: Seconds after which a nudge that nobody took is thrown away; the reconciler has rung again by then.
NUDGE_EXPIRES = 60
#: Seconds that a caller waits for the broker at most.
RING_TIMEOUT = 0.8


class QueueName(StrEnum):
    """Queues, named by what they promise."""

    URGENT = "dispatcher.urgent"  #: at once: breaking news and what a person waits for; reserved workers listen here
    BULK = "dispatcher.bulk"  #: soon: everything else


class Task(StrEnum):
    """The tasks that can be rung for; `workers.tasks` holds one of each."""

    CUT = "dispatcher.cut"  #: freeze the audience of blasts that were published
    SEND = "dispatcher.send"  #: claim and send batches
    TICK = "dispatcher.tick"  #: one round of the reconciler


QUEUES = tuple(Queue(str(name), durable=True) for name in QueueName)  # type: ignore[no-untyped-call]


def transport_options(broker_url: str, *, timeout: float) -> dict[str, object]:
    """Transport options with which a dead broker is noticed within `timeout` seconds."""
    if broker_url.startswith("amqp"):
        return {"confirm_publish": True}
    return {
        "visibility_timeout": 300,
        "socket_timeout": timeout,
        "socket_connect_timeout": min(timeout, 5.0),
        "socket_keepalive": not broker_url.startswith(("redis+socket", "unix")),
        "health_check_interval": 15,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
    }


def new_celery(broker_url: str, *, timeout: float) -> Celery:
    """A Celery application with the settings that ringer and workers share: JSON only, no results, no retries."""
    app = Celery("dispatcher", broker=broker_url, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_ignore_result=True,
        result_backend=None,
        task_queues=QUEUES,
        task_default_queue=str(QueueName.BULK),
        task_create_missing_queues=False,
        task_publish_retry=False,
        broker_connection_timeout=min(timeout, 5.0),
        broker_transport_options=transport_options(broker_url, timeout=timeout),
    )
    return app


class Bell:
    """Rings for work. One for a process; safe to use from any number of coroutines."""

    def __init__(self, broker_url: str) -> None:
        self._celery = new_celery(broker_url, timeout=RING_TIMEOUT / 2)
        # Import the transport and the producer now: on a cold start that takes longer than a ring may.
        _ = self._celery.connection_for_write().transport, self._celery.amqp.Producer

    async def ring(self, task: Task, *, urgency: int | None = None, times: int = 1) -> bool:
        """Ring `times` times, on the urgent queue as well if `urgency` is urgent. False if the broker did not take it.

        Never raises and never waits longer than `RING_TIMEOUT`: a lost nudge costs seconds, not readers.
        """
        queues = [QueueName.BULK]
        if urgency is not None and urgency <= URGENT:
            queues.append(QueueName.URGENT)
        try:
            async with asyncio.timeout(RING_TIMEOUT):
                await asyncio.to_thread(self._send, task, queues, times)
        except (OperationalError, OSError, TimeoutError) as error:
            log.warning("nudge lost", task=str(task), error=type(error).__name__, remedy="the reconciler rings again")
            return False
        return True

    def _send(self, task: Task, queues: list[QueueName], times: int) -> None:
        with self._celery.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
            producer = self._celery.amqp.Producer(connection.default_channel)
            for queue in queues:
                for _ in range(times):
                    self._celery.send_task(
                        str(task), queue=str(queue), expires=NUDGE_EXPIRES, producer=producer, retry=False
                    )
