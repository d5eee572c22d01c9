"""Ringing for workers by hand, and finding out whether they listen."""

from __future__ import annotations

import asyncio
import threading
import time

import redis

from dispatcher.embedded.valkey import Valkey
from dispatcher.nudges import QueueName, Task, new_celery


def ring_from(hands: int, *, times: int, broker: str) -> None:
    """Ring `times` times from each of so many threads, which all begin at the same moment."""
    barrier = threading.Barrier(hands)

    def ring() -> None:
        celery = new_celery(broker, timeout=10)
        with celery.connection_for_write() as connection:
            producer = celery.amqp.Producer(connection.default_channel)
            barrier.wait()
            for _ in range(times):
                celery.send_task(str(Task.SEND), queue=str(QueueName.BULK), producer=producer, retry=False)

    threads = [threading.Thread(target=ring) for _ in range(hands)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


async def listening(valkey: Valkey, *, workers: int, within: float) -> float:
    """Seconds until nudges that are rung now have all been taken, and so many workers wait for the next.

    The reconciler cannot do that for them: it finds work, but it takes nothing off a queue.
    """
    began = time.monotonic()
    with redis.Redis(unix_socket_path=str(valkey.socket)) as broker:
        await asyncio.to_thread(ring_from, 1, times=20, broker=valkey.url)
        while True:
            left = sum(int(broker.llen(str(name))) for name in QueueName)
            waiting = int(broker.info("clients")["blocked_clients"])
            if left == 0 and waiting >= workers:
                return time.monotonic() - began
            assert time.monotonic() - began < within, f"{left} nudges are left, and {waiting} of {workers} listen"
            await asyncio.sleep(0.02)
