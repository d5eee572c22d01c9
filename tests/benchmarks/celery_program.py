"""The usual way: a Celery task for each reader, which builds an EmailMessage and sends it with aiosmtplib.

Written as a careful team would write it, so that the comparison is fair: each process keeps its connection open,
messages are acknowledged late, results are off, nothing is logged. It keeps no ledger, so it could not say who was
reached. Started as `celery -A tests.benchmarks.celery_program worker`, with these settings in the environment:

    RIVAL_BROKER   the broker's URL
    RIVAL_PORT     the relay's port on this machine
    RIVAL_KB       the size of a mail
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from email.utils import formatdate, make_msgid
from functools import cache
from typing import IO

import aiosmtplib
from celery import Celery

from tests.benchmarks.programs import ROOT, Sink, plain_env

LINE = "The gauge at the bridge shows 6.12 metres, 38 centimetres more than before.\n"
#: Seconds without a new message after which the program counts as stuck.
STUCK = 20.0

app = Celery("rival", broker=os.environ.get("RIVAL_BROKER", "memory://"), set_as_current=False)
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    task_ignore_result=True,
    task_acks_late=True,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600},
)


@app.task(name="rival.send", autoretry_for=(aiosmtplib.SMTPException, OSError), max_retries=5)  # type: ignore[untyped-decorator]
def send(number: int) -> None:
    """Send one reader their mail."""
    _loop().run_until_complete(_send(message_for(number, int(os.environ["RIVAL_KB"]))))


def message_for(number: int, size_kb: int) -> EmailMessage:
    """A mail with a text and an HTML part, a fifth and four fifths of its size, as our own letters have them."""
    lines = max((size_kb * 1024 - 900) // len(LINE), 2)
    link = f"https://alerts.example.org/u/{number}"
    message = EmailMessage()
    message["From"] = "Newsroom alerts <alerts@example.test>"
    message["To"] = f"Reader {number} <reader{number}@example.test>"
    message["Subject"] = "Benchmark"
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="example.test")
    message["List-Unsubscribe"] = f"<{link}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    message.set_content(LINE * (lines // 5) + f"Stop: {link}\n")
    message.add_alternative(f"<p>{LINE * (lines - lines // 5)}</p><a href='{link}'>Stop</a>", subtype="html")
    return message


async def _send(message: EmailMessage) -> None:
    client = _client()
    if not client.is_connected:
        await client.connect()
    await client.send_message(message)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One loop for each process, made after the fork."""
    return asyncio.new_event_loop()


@cache
def _client() -> aiosmtplib.SMTP:
    port = int(os.environ["RIVAL_PORT"])
    return aiosmtplib.SMTP(hostname="127.0.0.1", port=port, start_tls=False, local_hostname="bench.test")


def enqueue(broker: str, mails: int) -> None:
    """A task for each reader."""
    producer_app = Celery("rival", broker=broker, set_as_current=False)
    producer_app.conf.update(task_ignore_result=True)
    with producer_app.connection_for_write() as connection:
        producer = producer_app.amqp.Producer(connection)
        for number in range(mails):
            producer_app.send_task("rival.send", (number,), producer=producer)


def per_second(broker: str, sink: Sink, mails: int, *, size_kb: int, concurrency: int = 2) -> float:
    """Mails a second from the first that arrives to the last; all tasks wait in the broker before a worker starts.

    So neither its start nor the enqueueing counts against it. Raises `RuntimeError` if it gets stuck.
    """
    enqueue(broker, mails)
    before = sink.taken()
    env = {"RIVAL_BROKER": broker, "RIVAL_PORT": str(sink.port), "RIVAL_KB": str(size_kb)}
    with _worker(env, concurrency) as log:
        first, began = 0, time.monotonic()
        taken, changed = 0, time.monotonic()
        while taken < mails:
            time.sleep(0.002)
            now, found = time.monotonic(), sink.taken() - before
            if found != taken:
                taken, changed = found, now
                if not first:
                    first, began = taken, now
            elif now - changed > STUCK:
                log.seek(0)
                last = log.read()[-2000:]
                raise RuntimeError(f"the Celery program sent {taken} of {mails} mails and then no more:\n{last}")
        return (mails - first) / (changed - began)


@contextmanager
def _worker(env: dict[str, str], concurrency: int) -> Iterator[IO[str]]:
    """A worker that runs, and what it says."""
    options = ("-c", str(concurrency), "-l", "ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat")
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", "-m", "celery", "--quiet", "-A", "tests.benchmarks.celery_program"),
                *("worker", *options, "-n", "rival@%h"),
            ],
            cwd=ROOT,
            env=plain_env(env),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield log
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
