"""Hosts of their own for workers: network namespaces with a cable that can be pulled, or groups behind proxies."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.proxy import Proxy, proxies


@dataclass(frozen=True)
class Host:
    """Where workers run, and how they find the servers from there."""

    name: str
    address: str  #: at which all servers answer
    lines: tuple[Proxy, ...]  #: to the servers, in the order in which they were given
    prefix: tuple[str, ...]  #: goes before a command that is to run there
    cut: Callable[[], None]
    heal: Callable[[], None]


def has_namespaces() -> bool:
    """Whether this machine lets us make network namespaces: root may, and not in every container."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    name = _new_name()
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    if made:
        _ip("netns", "del", name)
    return made


@contextmanager
def namespaces(count: int, *targets: Path | tuple[str, int]) -> Iterator[list[Host]]:
    """So many network namespaces, each with a cable of its own to a switch, at which the servers answer."""
    tag = _new_name()
    switch = f"{tag}s"
    subnet = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
    with ExitStack() as stack:
        _ip("link", "add", switch, "type", "bridge")
        stack.callback(_ip, "link", "del", switch)
        _ip("addr", "add", f"{subnet}.1/24", "dev", switch)
        _ip("link", "set", switch, "up")
        lines = stack.enter_context(proxies(*targets, host=f"{subnet}.1"))
        hosts = []
        for number in range(1, count + 1):
            name, here, there = f"{tag}{number}", f"{tag}a{number}", f"{tag}b{number}"
            _ip("netns", "add", name)
            stack.callback(_ip, "netns", "del", name)
            _ip("link", "add", here, "type", "veth", "peer", "name", there)
            _ip("link", "set", here, "master", switch)
            _ip("link", "set", here, "up")
            _ip("link", "set", there, "netns", name)
            inside = ("netns", "exec", name, "ip")
            _ip(*inside, "addr", "add", f"{subnet}.{number + 1}/24", "dev", there)
            _ip(*inside, "link", "set", there, "up")
            _ip(*inside, "link", "set", "lo", "up")
            hosts.append(
                Host(
                    f"host{number}",
                    f"{subnet}.1",
                    tuple(lines),
                    ("ip", "netns", "exec", name),
                    _pulling(here, "down"),
                    _pulling(here, "up"),
                )
            )
        yield hosts


@contextmanager
def behind_proxies(count: int, *targets: Path | tuple[str, int]) -> Iterator[list[Host]]:
    """So many groups of processes, each with lines of its own to the servers."""
    with ExitStack() as stack:
        hosts = []
        for number in range(1, count + 1):
            lines = stack.enter_context(proxies(*targets))
            hosts.append(
                Host(
                    f"host{number}",
                    "127.0.0.1",
                    tuple(lines),
                    (),
                    _all([line.freeze for line in lines]),
                    _all([line.thaw for line in lines]),
                )
            )
        yield hosts


def _pulling(cable: str, state: str) -> Callable[[], None]:
    return lambda: _ip("link", "set", cable, state)


def _all(actions: Sequence[Callable[[], None]]) -> Callable[[], None]:
    def act() -> None:
        for each in actions:
            each()

    return act


def _new_name() -> str:
    return f"dt{secrets.token_hex(2)}"


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def url_by(host: Host, url: str, line: int) -> str:
    """A database's URL as this host knows it."""
    before, _, after = url.partition("@")
    return f"{before}@{host.address}:{host.lines[line].port}/{after.partition('/')[2].partition('?')[0]}"
