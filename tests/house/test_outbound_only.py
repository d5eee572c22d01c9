"""Every call to somebody else's web server goes through `dispatcher.outbound`: one path without a guard is enough."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARD = ROOT / "dispatcher/outbound.py"
#: Whatever can make an HTTP request, in the standard library and in what we or our dependencies install.
CLIENTS = (
    *("aiohttp", "curl_cffi", "http.client", "httplib2", "httpx", "httpx2", "niquests", "pycurl", "pywebpush"),
    *("requests", "tornado.httpclient", "urllib.request", "urllib3", "xmlrpc.client"),
)
#: A box asks its own web process, on this machine, whether it is up.
OWN_PARTS = "dispatcher/embedded/parts.py"


def modules() -> list[Path]:
    found = [*(ROOT / "dispatcher").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    assert GUARD in found
    return [path for path in found if path != GUARD]


def clients_in(source: str) -> Iterator[str]:
    """The HTTP clients that a module gets hold of, however it does it."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                imported = [each.name for each in names]
            case ast.ImportFrom(module=module, names=names):
                imported = [f"{module}.{each.name}" for each in names]
            case ast.Call(func=ast.Name(id="__import__"), args=[ast.Constant(value=str(name)), *_]):
                imported = [name]
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                imported = [name]
            case ast.Attribute() if (dotted := ast.unparse(node)) in CLIENTS:
                imported = [dotted]  # `import urllib.parse` and then `urllib.request.urlopen`
            case _:
                continue
        for name in imported:
            yield from (client for client in CLIENTS if f"{name}.".startswith(f"{client}."))


def test_nothing_but_the_guard_has_an_http_client() -> None:
    found = {f"{path.relative_to(ROOT)}: {client}" for path in modules() for client in clients_in(path.read_text())}

    assert found <= {f"{OWN_PARTS}: http.client"}


def test_a_box_asks_nobody_but_this_machine() -> None:
    calls = [
        node
        for node in ast.walk(ast.parse((ROOT / OWN_PARTS).read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("http.client.")
    ]

    assert calls
    assert {ast.unparse(call.args[0]) for call in calls} == {"'127.0.0.1'"}


@pytest.mark.parametrize(
    "source",
    [
        "import aiohttp",
        "import urllib.request",
        "from urllib import request",
        "from urllib.request import urlopen",
        "import http.client as c",
        "import urllib.parse\nurllib.request.urlopen('https://example.org')",
        "from httpx import AsyncClient",
        "import requests.sessions",
        "import importlib\nimportlib.import_module('aiohttp')",
        "__import__('requests')",
        "def f():\n    from aiohttp import ClientSession",
    ],
)
def test_a_client_is_found_however_it_is_written(source: str) -> None:
    assert list(clients_in(source))


@pytest.mark.parametrize("source", ["import urllib.parse", "from http import HTTPStatus", "import requests_like"])
def test_what_is_no_client_is_left_alone(source: str) -> None:
    assert list(clients_in(source)) == []
