"""Machines ask how the site is: up, ready, and in figures."""

from __future__ import annotations

import socket
import time

import psycopg
from prometheus_client.parser import text_string_to_metric_families

from tests.api.problems import problem
from tests.api.serving import Site, running, settings_for


def figures(text: str) -> dict[str, float]:
    """Every sample by its name and labels."""
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scraped(site: Site) -> dict[str, float]:
    """The figures of a scrape for which none came too late, however busy this machine is."""
    deadline = time.monotonic() + 20
    while True:
        found = figures(site.get("/metrics").text)
        late = [value for name, value in found.items() if name.startswith("dispatcher_figures_late")]
        if late and not any(late):
            return found
        assert time.monotonic() < deadline, found
        time.sleep(0.02)


def a_port_where_nothing_listens() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def test_a_site_that_can_work_is_up_and_ready(site: Site) -> None:
    assert site.get("/healthz").json()["status"] == "up"
    assert site.get("/readyz").json() == {"status": "ready"}


def test_the_fleet_is_shown_in_figures_that_prometheus_reads(site: Site) -> None:
    site.create_story()
    site.create_story("strike")
    site.close_story("strike")
    site.add_reader("tarrow-flood", "strike")
    site.add_reader("tarrow-flood")
    site.publish()
    found = scraped(site)
    answer = site.get("/metrics")

    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert found["dispatcher_database_up"] == 1
    assert found["dispatcher_stories_developing"] == 1
    assert found["dispatcher_subscribers"] == 2
    assert found["dispatcher_subscriptions_active"] == 3
    assert found["dispatcher_blasts_open"] == 1
    assert found["dispatcher_blasts_by_state{cutting}"] == 1
    assert 0 < found["dispatcher_oldest_blast_seconds"] < 60
    assert found["dispatcher_batches_dead"] == 0
    assert "@" not in answer.text


def test_without_its_database_a_site_is_up_says_what_is_wrong_and_shows_no_internals(broker_url: str) -> None:
    url = f"postgresql://someone:hidden@127.0.0.1:{a_port_where_nothing_listens()}/nothing"
    with running(settings_for(url, broker_url)) as site:
        ready = site.get("/readyz")
        metrics = site.get("/metrics")

        assert site.get("/healthz").status_code == 200
        assert "hidden" not in ready.text
        problem(ready, 503, "database-unavailable")
        assert ready.headers["retry-after"]
        assert figures(metrics.text)["dispatcher_database_up"] == 0


def test_a_site_on_a_database_without_its_schema_is_not_ready(database_url: str, broker_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'older'")
    with running(settings_for(database_url, broker_url)) as site:
        older = problem(site.get("/readyz"), 503, "schema-outdated")
        site.look("DROP TABLE alembic_version")
        none = problem(site.get("/readyz"), 503, "schema-outdated")

    assert "older" in older["detail"]
    assert "dispatcher migrate" in none["remedy"]
