"""The Celery application: `celery -A workers.app:app worker`."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from contextlib import suppress
from importlib import import_module
from typing import Any

import psutil
from celery import Celery
from celery.signals import (
    setup_logging,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from dispatcher import config, logs
from dispatcher.embedded.process import die_with_parent
from dispatcher.nudges import QueueName, Task, new_celery

#: Seconds after which a silent broker counts as gone.
BROKER_TIMEOUT = 10.0
TICK_EVERY = 10.0
#: Seconds that Celery has to end a process by itself, once nothing is on its way any more.
LAST_WORD = 3.0
#: The process that imports this and then forks; a child inherits the number.
PARENT = os.getpid()


def make_app() -> Celery:
    """The application, from the settings in the environment."""
    app = new_celery(config.load().broker_url, timeout=BROKER_TIMEOUT)
    app.conf.update(
        include=["workers.tasks"],
        # A nudge is disposable, so it is taken off the queue before it is followed: the ledger is the queue.
        task_acks_late=False,
        task_soft_time_limit=60,
        task_time_limit=90,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_eta_task_limit=1000,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=0,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        beat_schedule={
            "tick": {
                "task": str(Task.TICK),
                "schedule": TICK_EVERY,
                "options": {"queue": str(QueueName.BULK), "expires": TICK_EVERY},
            }
        },
    )
    return app


@setup_logging.connect  # type: ignore[untyped-decorator]
def _set_up_logging(**_: Any) -> None:
    logs.setup()
    # A line for every nudge would bury what matters.
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.beat", "kombu"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


@worker_init.connect  # type: ignore[untyped-decorator]
def _load_engine(**_: Any) -> None:
    """Load what sends before processes are forked, so that they share it. Beat only rings, and never loads it."""
    import_module("workers.runtime")


@worker_process_init.connect  # type: ignore[untyped-decorator]
def _start_engine(**_: Any) -> None:
    from workers import runtime

    die_with_parent(PARENT)
    # Celery sets its own handler for SIGTERM after this, one that ends the process in the middle of a message. So the
    # signal is blocked in every thread, and one thread waits for it: whoever signals the whole group, all is well.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    runtime.start(urgent_only=os.environ.get("DISPATCHER_URGENT_ONLY") == "1")
    threading.Thread(target=_stop_when_told, name="stopper", daemon=True).start()


def _stop_when_told() -> None:
    signal.sigwait({signal.SIGTERM})
    from workers import runtime

    try:
        runtime.stop()
    finally:  # this process hears no other signal: whatever went wrong, it has to end
        time.sleep(LAST_WORD)
        os._exit(0)


@worker_shutting_down.connect  # type: ignore[untyped-decorator]
def _tell_processes(**_: Any) -> None:
    """Celery waits for running tasks; ours keep claiming, so they have to hear of it at once."""
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            child.terminate()


@worker_process_shutdown.connect  # type: ignore[untyped-decorator]
def _stop_engine(**_: Any) -> None:
    from workers import runtime

    runtime.stop()


app = make_app()
