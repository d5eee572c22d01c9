"""Every queue has somebody who listens, in the compose file and in a box; and the compose file holds together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from dispatcher import config, identity, logs
from dispatcher.cli import app
from dispatcher.cli.parts import worker_command
from dispatcher.embedded.parts import COMMANDS
from dispatcher.nudges import QueueName

ROOT = Path(__file__).resolve().parents[2]
EVERY_QUEUE = {str(name) for name in QueueName}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return found


def listened_to(commands: Sequence[Sequence[str]]) -> dict[str, int]:
    """How many of these commands of ours listen to each queue."""
    counts = dict.fromkeys(EVERY_QUEUE, 0)
    for command in commands:
        if command[0] == "worker":
            argv = worker_command(urgent_only="--urgent-only" in command)
            for queue in argv[argv.index("-Q") + 1].split(","):
                counts[queue] += 1
    return counts


def test_every_queue_has_a_consumer_in_compose_and_the_urgent_one_a_reserved_one(compose: dict[str, Any]) -> None:
    counts = listened_to([service["command"] for service in compose["services"].values() if "command" in service])

    assert all(counts.values()), counts
    assert counts[QueueName.URGENT] > counts[QueueName.BULK]


def test_every_queue_has_a_consumer_in_a_box_and_the_urgent_one_a_reserved_one() -> None:
    counts = listened_to([command[command.index("dispatcher.cli") + 1 :] for command in COMMANDS.values()])

    assert all(counts.values()), counts
    assert counts[QueueName.URGENT] > counts[QueueName.BULK]


def test_a_worker_reserved_for_urgent_work_listens_to_nothing_else() -> None:
    argv = worker_command(urgent_only=True)

    assert argv[argv.index("-Q") + 1] == QueueName.URGENT
    assert argv[argv.index("-c") + 1] == "1"


def test_compose_runs_every_part_with_commands_that_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]
    ours = {name: service for name, service in services.items() if service.get("image") == "dispatcher"}
    known = get_command(app).list_commands(None)  # type: ignore[attr-defined]

    assert set(services) == {
        *("postgres", "valkey", "mailpit"),
        *("migrate", "web", "worker", "worker-urgent", "beat"),
    }
    assert {service["command"][0] for service in ours.values()} <= set(known)
    assert all(service["restart"] == "unless-stopped" for name, service in services.items() if name != "migrate")
    assert services["migrate"]["restart"] == "no"


def test_compose_waits_for_what_it_needs(compose: dict[str, Any]) -> None:
    services = compose["services"]

    for name in ("postgres", "valkey", "mailpit"):
        assert services[name]["healthcheck"]["test"]
    assert services["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"
    for name in ("web", "worker", "worker-urgent", "beat"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert set(compose["volumes"]) == {"postgres"}


def test_compose_has_no_secret_of_its_own_and_listens_on_this_machine_alone(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for key, value in service.get("environment", {}).items():
            if any(word in key for word in ("SECRET", "PASSWORD")) or "PASSWORD" in value:
                assert ":?" in value or value.endswith(":-}"), f"{name}: {key} has a default"


def test_compose_sets_only_settings_that_are_read(compose: dict[str, Any]) -> None:
    source = "".join(Path(str(each.__file__)).read_text() for each in (config, identity, logs))

    for service in compose["services"].values():
        for key in service.get("environment", {}):
            if key.startswith(config.PREFIX):
                assert f'"{key.removeprefix(config.PREFIX)}"' in source or f'"{key}"' in source, key


def test_compose_passes_on_every_setting_that_a_person_may_want_to_change(compose: dict[str, Any]) -> None:
    web, worker = (compose["services"][name]["environment"] for name in ("web", "worker"))

    for name in (
        "SMTP_URL",
        "IN_DOUBT",
        "PUBLIC_URL",
        "MAIL_FROM",
        "NEWSROOM",
        "NEWSROOM_ADDRESS",
        "NEWSROOM_LANGUAGE",
        "TIMEZONE",
        "NEWSROOM_LOGO",
        "NEWSROOM_COLOUR",
        "EMBED_ORIGINS",
        "PUSH_SERVICES",
        "TRUSTED_PROXIES",
        "BRAKE",
        "ENV",
        "LOG",
        "LOG_LEVEL",
    ):
        key = config.PREFIX + name
        assert web[key] == worker[key]
        assert web[key].startswith(f"${{{key}:-"), key
    assert web["DISPATCHER_DATABASE_POOL"].startswith("${DISPATCHER_DATABASE_POOL:-")
