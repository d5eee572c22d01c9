"""Readers from a file, handed in at the desk: checked, watched, reported; and files that are made to hurt (S29)."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from dispatcher.addresses import address_hash, parse_address
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from dispatcher.roles import Role
from tests.api.serving import SECRET, Site, settings_for
from tests.journeys.desks import Tab, employ, tab
from tests.support.databases import fresh_database

BEN = "ben@courier.example"
MEGABYTE = 1024 * 1024


def hand_in(opened: Tab, content: bytes, *, name: str = "readers.csv", **fields: str) -> httpx2.Response:
    """Send the form with a file, as a browser does."""
    sent = {"csrf": opened.csrf("/desk/import"), "story": "tarrow-flood", **fields}
    return opened.client.post("/desk/import", data=sent, files={"file": (name, content, "text/csv")})


def outcome(opened: Tab, answer: httpx2.Response, *, within: float = 10) -> str:
    """The page of an import once it has come to its end."""
    assert answer.status_code == 303, answer.text
    end = time.monotonic() + within
    while "data-again" in (page := opened.get(answer.headers["location"]).text):
        assert time.monotonic() < end, "the import has not come to its end"
        time.sleep(0.05)
    return page


def counts(page: str) -> dict[str, int]:
    rows = re.findall(r'<th scope="row">([^<]+)</th><td class="n">([\d,]+)</td>', page)
    return {words: int(number.replace(",", "")) for words, number in rows}


def suppress(site: Site, email: str, reason: str = "complaint") -> None:
    site.look("INSERT INTO suppressions VALUES (%s, %s)", address_hash(SECRET, parse_address(email)), reason)


def test_a_file_is_imported_and_reported_line_by_line(site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    suppress(site, "gone@mail.example", "erased by the reader")
    lines = ["email,name", "ada@mail.example,Ada", "ADA@mail.example,Ada", "gone@mail.example,", "bob@mail.example,Bob"]
    with tab(site, BEN) as ben:
        page = outcome(ben, hand_in(ben, "\n".join(lines).encode(), confirmed="yes"))
        assert "2 new followers." in page
        found = counts(page)
        assert (found["Lines read"], found["New followers"], found["Further lines of one address"]) == (4, 2, 1)
        assert found["Suppressed, left alone"] == 1
        told = ben.get(re.findall(r'href="(/desk/import/\d+/lines.csv)"', page)[0])
        assert told.headers["content-disposition"].endswith('lines.csv"')
        rows = list(csv.reader(io.StringIO(told.text)))
        assert rows[1][:3] == ["4", "email", "suppressed"]
        assert "@" not in told.text
        again = outcome(ben, hand_in(ben, "\n".join(lines).encode(), confirmed="yes"))
        assert (counts(again)["New followers"], counts(again)["Followed before"]) == (0, 2)
        assert "imported readers" in ben.get("/desk/log").text
        assert "readers.csv" in ben.get("/desk/import").text
    confirmed = site.look("SELECT count(*) FROM subscriptions WHERE confirmed_at IS NOT NULL")
    assert confirmed == [(2,)]
    assert site.look("SELECT count(*) FROM subscribers WHERE email LIKE 'gone%%'") == [(0,)]


def test_one_bad_line_is_enough_and_nobody_is_imported_unless_bad_lines_may_be_left_out(site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    content = (
        b"email,timezone\nada@mail.example,UTC\nno address,UTC\nbob@mail.example,=cmd()\n\x00,\nx@mail.example\xff,\n"
    )
    with tab(site, BEN) as ben:
        page = outcome(ben, hand_in(ben, content))
        assert "Nothing was imported." in page
        assert "4 lines cannot be imported, so none was." in page
        assert [line for line in ("3", "4", "5", "6") if f'data-k="Line">{line}</th>' not in page] == []
        assert site.look("SELECT count(*) FROM subscribers") == [(0,)]
        told = ben.get(re.findall(r'href="(/desk/import/\d+/lines.csv)"', page)[0]).text
        assert not [cell for row in csv.reader(io.StringIO(told)) for cell in row if cell.startswith(("=", "+", "@"))]
        page = outcome(ben, hand_in(ben, content, leaves_out="yes"))
        assert (counts(page)["New followers"], counts(page)["Bad lines, left out"]) == (1, 4)
    assert site.look("SELECT email FROM subscribers") == [("ada@mail.example",)]
    assert site.look("SELECT count(*) FROM subscriptions WHERE confirmed_at IS NULL") == [(1,)]


def test_what_is_no_form_with_a_file_begins_nothing(site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    employ(site, "rita@courier.example", Role.REPORTER)
    site.create_story()
    site.create_story("over", "Over")
    site.close_story("over")
    with tab(site, BEN) as ben, tab(site, "rita@courier.example") as rita:
        assert hand_in(ben, b"").status_code == 422
        assert hand_in(ben, b"email\na@mail.example\n", story="nothing").status_code == 404
        assert hand_in(ben, b"email\na@mail.example\n", story="over").status_code == 404
        assert hand_in(ben, b"email\na@mail.example\n", csrf="a" * 48).status_code == 403
        assert ben.submit("/desk/import", story="tarrow-flood").status_code == 403
        file = {"file": ("a.csv", b"email\na@mail.example\n", "text/csv")}
        assert rita.client.post("/desk/import", data={"csrf": rita.csrf("/desk")}, files=file).status_code == 403
        broken = {"Content-Type": "multipart/form-data; boundary=x"}
        assert ben.client.post("/desk/import", content=b"--x\r\nbroken", headers=broken).status_code == 403
        assert ben.get("/desk/import/1").status_code == 404
        assert ben.get("/desk/import/x/lines.csv").status_code == 404
    assert site.look("SELECT count(*) FROM imports") == [(0,)]


def test_an_import_whose_program_has_ended_is_told_so_and_the_same_file_goes_on(site: Site) -> None:
    employ(site, BEN, Role.EDITOR)
    site.create_story()
    site.look(
        "INSERT INTO imports (story_id, name, size, by, confirmed, leaves_out, state, seen_at)"
        " SELECT id, 'half.csv', 10, 'ada', true, false, 'importing', now() - interval '1 minute' FROM stories"
    )
    with tab(site, BEN) as ben:
        page = ben.get("/desk/import/1").text
        assert "Interrupted." in page
        assert "data-again" not in page
        assert "Interrupted" in ben.get("/desk/import").text


SERVE = "from dispatcher import app, config, logs; logs.setup(); app.serve(config.load(), '127.0.0.1', 0)"
MOST_MEMORY = 200 * MEGABYTE


@dataclass
class Served(Site):
    """A site in a process of its own, whose memory can be told from ours."""

    process: psutil.Process | None = None

    def peak(self) -> int:
        """Bytes of memory that the process has had at most since `measure`."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) * 1024

    def measure(self) -> None:
        """Begin anew: a password that is checked takes 64 MB by itself, for a moment."""
        assert self.process is not None
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")


@pytest.fixture(scope="module")
def served(
    postgres: Postgres, template_database: str, valkey: Valkey, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    with fresh_database(postgres, template_database) as url:
        env = {
            **os.environ,
            "DISPATCHER_DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "DISPATCHER_DATABASE_URL": url,
            "DISPATCHER_BROKER_URL": valkey.url,
            "DISPATCHER_SMTP_URL": "smtp://127.0.0.1:1",
            "DISPATCHER_PUBLIC_URL": "http://127.0.0.1",
            "DISPATCHER_SECRET_KEY": SECRET,
            "DISPATCHER_LOG": "json",
        }
        with subprocess.Popen([sys.executable, "-c", SERVE], env=env, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            try:
                line = process.stderr.readline()
                while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", line)):
                    assert line, "the server ended while it started"
                    line = process.stderr.readline()
                site = Served(f"http://127.0.0.1:{found[1]}", settings_for(url, valkey.url))
                site.process = psutil.Process(process.pid)
                employ(site, BEN, Role.EDITOR)
                site.create_story()
                yield site
            finally:
                process.kill()


def zipped() -> bytes:
    """A hundred megabytes of readers in a hundred kilobytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../etc/readers.csv", b"email\n" + b"a@mail.example\n" * 7_000_000)
    return out.getvalue()


BOMBS: dict[str, Callable[[], bytes]] = {
    "a zip of a thousand times its size": zipped,
    "a million columns": lambda: b"email," + b",".join(b"c%d" % number for number in range(1_000_000)) + b"\n",
    "a thousand columns": lambda: b"email" + b",c" * 1_000 + b"\n",
    "a NUL in the header": lambda: b"email\0,name\na@mail.example,\n",
    "NULs in the lines": lambda: b"email\n" + b"\0\n" * 1_000_000,
    "a cell of ten megabytes": lambda: b"email,name\na@mail.example," + b"x" * 10_000_000 + b"\n",
    "a quotation mark that is never closed": lambda: b'email,name\na@mail.example,"' + b"x\n" * 1_000_000,
    "nothing but line ends": lambda: b"email\n" + b"\n" * 60_000_000,
    "one line without an end": lambda: b"email\n" + b"a" * 60_000_000,
    "UTF-16": lambda: "email\na@mail.example\n".encode("utf-16"),
    "a picture": lambda: b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_is_made_to_hurt_is_refused_within_seconds_and_changes_nothing(served: Served, name: str) -> None:
    content = BOMBS[name]()
    with tab(served, BEN) as ben:
        served.measure()
        began = time.monotonic()
        page = outcome(ben, hand_in(ben, content, name="../../../etc/passwd\x00<script>.csv"))
        took = time.monotonic() - began
        assert ben.client.get("/healthz").status_code == 200

    assert "Nothing was imported." in page
    assert "etc/passwd" not in page
    assert "<script>.csv" not in page
    assert took < 20
    assert served.look("SELECT count(*) FROM subscribers") == [(0,)]
    assert served.peak() < MOST_MEMORY


def endless() -> Iterator[bytes]:
    """Two gigabytes, as long as somebody takes them."""
    yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\nemail\n'
    for _ in range(2048):
        yield b"a@mail.example\n" * (MEGABYTE // 15)


def test_two_gigabytes_are_refused_whether_or_not_they_say_so(served: Served) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    with tab(served, BEN) as ben:
        served.measure()
        for more in ({"Content-Length": str(2 * 1024 * MEGABYTE)}, {}):
            began = time.monotonic()
            try:
                answer = ben.client.post("/desk/import", content=endless(), headers={**headers, **more})
            except (httpx2.WriteError, httpx2.ReadError, httpx2.RemoteProtocolError):
                pass  # the server has shut the line while we were still sending
            else:
                assert answer.status_code == 413
            assert time.monotonic() - began < 20
        assert ben.is_in()

    assert served.look("SELECT count(*) FROM subscribers") == [(0,)]
    assert served.peak() < MOST_MEMORY
