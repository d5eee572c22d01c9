"""The usual way to push: `pywebpush.webpush()` called in a loop.

    python -m tests.benchmarks.pywebpush_program --port P --pushes N --bytes B [--keep]

prints one object, {"pushes", "seconds", "per_second", "cpu_us_per_push"}. Our key is read once and the headers are
those that we send. With --keep all pushes go over one session, whose connection stays open; without it each call
opens its own, which is what the function does unless it is told otherwise. It keeps no ledger.
"""

from __future__ import annotations

import argparse
import json
import time

import requests
from py_vapid import Vapid02
from pywebpush import webpush

from dispatcher.embedded.process import die_with_parent
from tests.support.push_service import CREATED, Device

#: Devices with keys of their own; each gets every so-manieth push.
DEVICES = 50
HEADERS: dict[str, str | int | float] = {"Urgency": "normal", "Topic": "c3RvcnktYmVuY2htYXJr"}
TTL = 6 * 3600


def push(port: int, pushes: int, size: int, *, keep: bool) -> dict[str, float]:
    """Push so many times so many bytes. Raises `pywebpush.WebPushException` if the service takes one not."""
    key = Vapid02()
    key.generate_keys()
    subscriptions = [
        Device(f"http://127.0.0.1:{port}/push/{number}", lambda _: CREATED).subscription for number in range(DEVICES)
    ]
    text = json.dumps({"title": "Benchmark", "body": "x" * size})[:size]
    session = requests.Session() if keep else None
    began, used = time.monotonic(), time.process_time()
    for number in range(pushes):
        webpush(
            subscriptions[number % DEVICES],
            data=text,
            vapid_private_key=key,
            vapid_claims={"sub": "mailto:alerts@example.test"},
            ttl=TTL,
            headers=HEADERS,
            requests_session=session,
        )
    seconds, cpu = time.monotonic() - began, time.process_time() - used
    return {
        "pushes": pushes,
        "seconds": seconds,
        "per_second": pushes / seconds,
        "cpu_us_per_push": cpu / pushes * 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pushes", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True, help="that each device is to read")
    parser.add_argument("--keep", action="store_true", help="keep the connection open")
    arguments = parser.parse_args()
    die_with_parent()
    print(json.dumps(push(arguments.port, arguments.pushes, arguments.bytes, keep=arguments.keep)))


if __name__ == "__main__":
    main()
