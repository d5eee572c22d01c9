"""Addresses stand where they have to, and nowhere else: not in logs, messages, figures or URLs, whatever goes wrong.

One night with a web process and a worker of their own, in which relay, templates and database fail one after the other.
"""

from __future__ import annotations

import csv
import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dispatcher.addresses import address_hash, parse_address
from dispatcher.embedded.postgres import Postgres
from dispatcher.embedded.valkey import Valkey
from tests.api.serving import Site
from tests.api.serving import settings_for as site_settings
from tests.journeys.test_web_guards import SERVE
from tests.rendering.test_press import Template, copy_program
from tests.security.house import House, beside, links
from tests.support.boxes import ROOT, eventually
from tests.support.databases import fresh_database
from tests.support.directories import service_directory
from tests.support.fleet import a_fleet
from tests.support.newsroom import SECRET
from tests.support.push_service import Device
from tests.support.sink import HANG_UP, Session

FOLLOW = ("ada", "bounced", "deferred", "refused", "cut", "broken", "Ünal", "tokyo")
READERS = (*FOLLOW, "nowhere", "poison", "web", "failed")


@dataclass
class Night:
    """What there was, and every place in which something may have been written."""

    house: House
    emails: dict[str, str]
    own: dict[str, str] = field(default_factory=dict)  #: the page of each reader
    device: Device | None = None
    written: dict[str, str] = field(default_factory=dict)  #: by place
    exported: str = ""

    def secrets(self) -> set[str]:
        """The keys that links of this night hold."""
        mails = [mail for email in self.emails.values() for mail in self.house.mails(email, 0)]
        found = {
            link.rpartition("/")[2]
            for mail in mails
            for link in re.findall(r"/(?:confirm|manage|u)/[\w=-]{32}", str(mail))
        }
        return found | {path.rpartition("/")[2] for path in self.own.values()}


@contextmanager
def listening_to(valkey: Valkey) -> Iterator[list[bytes]]:
    """Everything that is said to the broker (MONITOR)."""
    heard: list[bytes] = []
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(valkey.socket))
    connection.sendall(b"MONITOR\r\n")
    connection.settimeout(0.1)
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            try:
                heard.append(connection.recv(65_536))
            except TimeoutError:
                continue

    thread = threading.Thread(target=listen)
    thread.start()
    try:
        yield heard
    finally:
        over.set()
        thread.join()
        connection.close()


@contextmanager
def serving(env: dict[str, str], log: Path) -> Iterator[str]:
    """A web process; its address."""
    with log.open("wb") as stderr:
        process = subprocess.Popen([sys.executable, "-c", SERVE], env=env, cwd=ROOT, stderr=stderr)
    found: list[str] = []

    def is_up() -> bool:
        found[:] = re.findall(r"http://127\.0\.0\.1:[1-9]\d*", log.read_text(errors="replace"))
        return bool(found)

    try:
        assert eventually(is_up, 20), log.read_text(errors="replace")
        yield found[0]
    finally:
        process.terminate()
        process.wait(10)


def a_night(house: House, night: Night) -> None:
    """Readers follow, confirm and are written to; then everything goes wrong that can."""
    site, emails = house.site, night.emails
    slug = site.create_story("dam", "The dam above the city")
    site.publish(slug)
    for name in FOLLOW:
        night.own[name] = house.confirmed(slug, emails[name], catch_up="1")
        house.mails(emails[name], 2)
    night.device = house.device(slug, manage=night.own["ada"].rpartition("/")[2])

    def script(step: str, argument: str, session: Session) -> str | None:
        answers = {
            "bounced": f"550 5.1.1 <{argument}>: Recipient address rejected: User {argument} unknown",
            "deferred": f"450 4.2.1 The mailbox {argument} is busy, see https://help.example/?to={argument}",
            "refused": f"554 5.7.1 Access denied for {argument.upper()}; {argument}",
            "cut": HANG_UP,
        }
        name = next((name for name in answers if emails[name] == argument), "")
        return answers.get(name) if step == ("BODY" if name == "cut" else "RCPT") else None

    house.sink.script = script
    site.look("UPDATE subscribers SET name = E'broken\\r\\nBcc: x' WHERE email = %s", emails["broken"])
    site.look("UPDATE subscribers SET timezone = 'Asia/Tokyo' WHERE email = %s", emails["tokyo"])
    blast = house.site.publish(slug, headline="Water is over the wall")["blasts"][0]["id"]
    states = "SELECT count(DISTINCT subscriber_id) FROM deliveries WHERE blast_id = %s"
    assert eventually(lambda: site.look(states, blast)[0][0] >= 7, 15), site.look("SELECT * FROM deliveries")

    # A mail that nobody takes, and two forms in which the database finds fault with the address itself.
    site.look("ALTER TABLE confirmations ADD CONSTRAINT fault CHECK (email NOT LIKE 'poison%')")
    site.look("ALTER TABLE asks ADD CONSTRAINT fault CHECK (email NOT LIKE 'web%')")
    for name in ("nowhere", "poison"):
        site.follow(slug, emails[name])
    assert site.follow(slug, emails["web"]).status_code == 500
    site.post("/lost", {"email": emails["ada"]})
    house.mails(emails["ada"], 4)
    house.mails(emails["nowhere"])
    assert eventually(lambda: "ask cannot be answered" in night_log(night, "worker"), 15)
    site.look("ALTER TABLE notices RENAME TO gone")
    site.follow(slug, emails["failed"])
    assert eventually(lambda: "UndefinedTable" in night_log(night, "worker"), 15)
    site.look("ALTER TABLE gone RENAME TO notices")
    site.get(f"/s/{slug}?email={emails['ada']}")
    site.get(f"/confirm/{emails['ada']}")


def night_log(night: Night, place: str) -> str:
    return Path(night.written[f"{place} log"]).read_text(errors="replace")


@pytest.fixture(scope="module")
def night(postgres: Postgres, template_database: str, valkey: Valkey) -> Iterator[Night]:
    emails = {name: f"{name}.reader@{name.lower()}.example" for name in READERS}
    with (
        service_directory() as directory,
        fresh_database(postgres, template_database) as url,
        beside() as (sink, service),
        listening_to(valkey) as heard,
        a_fleet(url, valkey.url, sink.port, directory, workers=0) as fleet,
    ):
        fleet.env.update(
            DISPATCHER_LOG="json",
            DISPATCHER_LOG_LEVEL="debug",
            DISPATCHER_PUSH_SERVICES=service.origin,
            DISPATCHER_TRUSTED_PROXIES="127.0.0.1",
        )
        web_log = directory / "web.log"
        with serving(fleet.env, web_log) as address:
            fleet.env["DISPATCHER_PUBLIC_URL"] = address
            copy_program(directory)
            template = Template(directory / "templates/email/update/body.txt")
            template.write("{% if 'JST' in update.time %}{{ nothing }}{% endif %}" + template.whole)
            fleet.root = directory
            fleet.start_worker()
            made = site_settings(url, valkey.url, secret_key=SECRET, public_url=address)
            house = House(Site(address, made), sink, service)
            found = Night(house, emails, written={"web log": str(web_log), "worker log": str(fleet.log)})
            a_night(house, found)
            found.exported = house.site.post(found.own["ada"], {"do": "export"}).text
            metrics = house.site.get("/metrics").text
            found.written |= {"broker": b"".join(heard).decode(errors="replace"), "metrics": metrics}
            yield found


def kept_words(site: Site) -> dict[str, str]:
    """Where the database keeps what machines have said."""
    columns = {
        "deliveries": "reply",
        "notices": "reply",
        "incidents": "text",
        "batches": "reason",
        "relay_reports": "reason",
        "letter_failures": "reason",
        "suppressions": "reason",
        "tallies": "relay",
    }
    return {
        f"{table}.{column}": " ".join(str(value) for (value,) in site.look(f"SELECT {column} FROM {table}"))
        for table, column in columns.items()
    }


def test_no_address_is_where_it_has_no_business(night: Night) -> None:
    """S31: 0 hits in the logs of both processes with their tracebacks, in all that the broker was told, in metrics."""
    places = {
        "web log": night_log(night, "web"),
        "worker log": night_log(night, "worker"),
        "broker": night.written["broker"],
        "metrics": night.written["metrics"],
        **kept_words(night.house.site),
    }
    forms = [
        form for email in night.emails.values() for form in (email, email.replace("@", "%40"), email.split("@")[1])
    ]
    hits = [(place, form) for place, text in places.items() for form in forms if form.lower() in text.lower()]
    print(f"S31: { ({place: len(text) for place, text in places.items()}) } characters, {len(hits)} hits")

    assert hits == []
    urls = [link for email in night.emails.values() for mail in night.house.mails(email, 0) for link in links(mail)]
    assert len(urls) > 50
    assert [url for url in urls if "@" in url or "%40" in url] == []
    secrets = night.secrets()
    assert len(secrets) > 10
    assert [place for place, text in places.items() for each in secrets if each in text] == []


def test_what_went_wrong_is_in_the_logs_all_the_same(night: Night) -> None:
    """Or nothing would have been looked for."""
    web, worker = night_log(night, "web"), night_log(night, "worker")
    kept = kept_words(night.house.site)
    replies = kept["deliveries.reply"]

    assert "unexpected error" in web
    for words in ("asks cannot be answered together", "ask cannot be answered", "CheckViolation", "UndefinedTable"):
        assert words in worker, words
    for words in (
        "5.1.1 <[address]>",
        "4.2.1 The mailbox [address]",
        "5.7.1 Access denied for [address]",
        "after the last byte",
    ):
        assert words in replies, words
    assert "nothing" in kept["letter_failures.reason"]
    assert "dispatcher.send" in night.written["broker"]
    assert "dispatcher_" in night.written["metrics"]


def test_a_reader_takes_along_all_that_is_theirs_and_nothing_of_others(night: Night) -> None:
    """S33: through the page, by its button and by no link. Every table that knows the reader is in it."""
    taken = json.loads(night.exported)
    ada, site = night.emails["ada"], night.house.site
    assert night.device is not None
    [(reader,)] = site.look("SELECT id FROM subscribers WHERE email = %s", ada)
    counts = {
        "stories": "SELECT count(*) FROM subscriptions WHERE subscriber_id = %s",
        "devices": "SELECT count(*) FROM devices WHERE subscriber_id = %s",
        "deliveries": "SELECT count(*) FROM deliveries WHERE subscriber_id = %s"
        " OR subscriber_id IN (SELECT id FROM devices WHERE subscriber_id = %s)",
        **{
            table: f"SELECT count(*) FROM {table} JOIN subscribers s USING (address_hash) WHERE s.id = %s"
            for table in ("confirmations", "notices")
        },
    }

    assert taken["reader"]["email"] == ada
    for part, query in counts.items():
        assert len(taken[part]) == site.look(query, *[reader] * query.count("%s"))[0][0] > 0, part
    assert [each["endpoint"] for each in taken["devices"]] == [night.device.endpoint]
    assert not [email for name, email in night.emails.items() if name != "ada" and email in night.exported]
    assert site.get(night.own["ada"] + "?do=export").headers["content-type"].startswith("text/html")
    other = site.post(night.own["deferred"], {"do": "export"}).text
    assert ada not in other
    assert night.emails["deferred"] in other


def test_of_who_erases_themselves_nothing_is_left_but_a_keyed_hash(night: Night, tmp_path: Path) -> None:
    """S32: the page, the second button; then every table as text, and an import that tries."""
    site, ada = night.house.site, night.emails["ada"]
    assert night.device is not None
    hashed = address_hash(SECRET, parse_address(ada))
    traces = (ada, night.device.endpoint, night.device.auth_secret.hex(), night.device.public_key.hex())
    before = dump(site)
    assert all(any(trace in rows for rows in before.values()) for trace in traces)

    page = site.post(night.own["ada"] + "/erase")
    again = site.post(night.own["ada"] + "/erase")
    after = dump(site)

    assert (page.status_code, again.status_code) == (200, 200)
    assert [(table, trace) for table, rows in after.items() for trace in traces if trace.lower() in rows.lower()] == []
    assert [table for table, rows in after.items() if hashed.hex() in rows] == ["suppressions"]
    assert address_hash("another secret, as long as that one", parse_address(ada)) != hashed
    assert night.emails["deferred"] in "".join(after.values())

    file = tmp_path / "readers.csv"
    with file.open("w") as rows:
        csv.writer(rows).writerows([["email"], [ada], [ada.upper()], ["new@mail.example"]])
    command = [sys.executable, "-m", "dispatcher.cli", "subscribers", "import", str(file), "--story", "dam", "--json"]
    env = {
        "DISPATCHER_DATABASE_URL": site.settings.database_url,
        "DISPATCHER_SECRET_KEY": SECRET,
        "DISPATCHER_DATA_DIR": str(tmp_path),
        "DISPATCHER_BROKER_URL": site.settings.broker_url,
        "DISPATCHER_SMTP_URL": "smtp://127.0.0.1:1",
        "DISPATCHER_PUBLIC_URL": site.url,
    }
    done = subprocess.run([*command, "--confirmed"], env=env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert (told["suppressed"], told["added"], told["duplicates"]) == (1, 1, 1)
    assert site.look("SELECT count(*) FROM subscribers WHERE email ILIKE %s", ada) == [(0,)]
    assert ada not in done.stdout + done.stderr


def dump(site: Site) -> dict[str, str]:
    """Every row of every table, as text."""
    tables = [name for (name,) in site.look("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")]
    return {table: "\n".join(str(row) for (row,) in site.look(f"SELECT t::text FROM {table} t")) for table in tables}
