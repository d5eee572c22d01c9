"""Settings: what is unset, what is wrong, and what the error says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatcher import config
from dispatcher.errors import Misconfigured

GOOD = {
    "DISPATCHER_DATABASE_URL": "postgresql://u:p@db/d",
    "DISPATCHER_BROKER_URL": "redis://broker/0",
    "DISPATCHER_SMTP_URL": "smtp://user:p%40ss@relay:587?starttls=require&lanes=20 smtps://other",
    "DISPATCHER_PUBLIC_URL": "https://alerts.example.org/",
    "DISPATCHER_MAIL_FROM": "The Courier <alerts@courier.example>",
    "DISPATCHER_SECRET_KEY": "f0a8e2c5b7d94163a1b2c3d4e5f60718",
}


def load(directory: Path, **changes: str | None) -> config.Settings:
    env = {**GOOD, "DISPATCHER_DATA_DIR": str(directory), **{f"DISPATCHER_{k}": v for k, v in changes.items()}}
    return config.load({key: value for key, value in env.items() if value is not None})


def test_good_settings_are_read(tmp_path: Path) -> None:
    settings = load(tmp_path)

    first, second = settings.relays
    assert (first.host, first.port, first.username, first.password) == ("relay", 587, "user", "p@ss")
    assert (first.starttls, first.lanes, first.tls) == ("require", 20, False)
    assert (second.host, second.port, second.tls) == ("other", 465, True)
    assert settings.public_url == "https://alerts.example.org"
    assert settings.mail_domain == "courier.example"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", None),
        ("DATABASE_URL", "mysql://x"),
        ("BROKER_URL", "http://x"),
        ("SMTP_URL", "relay:25"),
        ("SMTP_URL", "http://relay"),
        ("SMTP_URL", "smtp://relay:notaport"),
        ("SMTP_URL", "smtp://relay:99999"),
        ("SMTP_URL", "smtp://relay?lanes=0"),
        ("SMTP_URL", "smtp://relay?lanes=many"),
        ("SMTP_URL", "smtp://relay?starttls=perhaps"),
        ("SMTP_URL", "smtp://relay?speed=9"),
        ("PUBLIC_URL", "alerts.example.org"),
        ("PUBLIC_URL", "https://bücher.example"),
        ("PUBLIC_URL", "https://alerts.example/?x=1"),
        ("PUBLIC_URL", 'https://alerts.example/">'),
        ("MAIL_FROM", "alerts"),
        ("MAIL_FROM", "a@b@c"),
        ("MAIL_FROM", "алерти@courier.example"),
        ("MAIL_FROM", "x <a@b.example>\r\nBcc: all@example.org"),
        ("SECRET_KEY", None),
        ("SECRET_KEY", "change-me"),
        ("SECRET_KEY", "tooshort"),
        ("NEWSROOM", "two\nlines"),
        ("DATABASE_POOL", "1"),
        ("DATABASE_POOL", "lots"),
    ],
)
def test_a_wrong_setting_is_named_with_a_remedy(tmp_path: Path, name: str, value: str | None) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(tmp_path, **{name: value})

    assert caught.value.field == name
    assert f"DISPATCHER_{name}" in str(caught.value)


def test_an_international_sender_domain_goes_out_in_ascii(tmp_path: Path) -> None:
    assert load(tmp_path, MAIL_FROM="alerts@bücher.example").mail_domain == "xn--bcher-kva.example"


def test_a_short_secret_is_allowed_in_development_only(tmp_path: Path) -> None:
    assert load(tmp_path, SECRET_KEY="dev", ENV="development").development


def test_secrets_do_not_show_when_settings_are_printed(tmp_path: Path) -> None:
    shown = repr(load(tmp_path))

    assert "p@ss" not in shown
    assert GOOD["DISPATCHER_SECRET_KEY"] not in shown
    assert "u:p@db" not in shown


def test_without_settings_and_without_a_box_the_error_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="dispatcher up"):
        config.load({"DISPATCHER_DATA_DIR": str(tmp_path)})
