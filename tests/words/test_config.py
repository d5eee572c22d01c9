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
        ("TIMEZONE", "Europe/Atlantis"),
        ("DATABASE_POOL", "1"),
        ("DATABASE_POOL", "lots"),
    ],
)
def test_a_wrong_setting_is_named_with_a_remedy(tmp_path: Path, name: str, value: str | None) -> None:
    with pytest.raises(Misconfigured) as caught:
        load(tmp_path, **{name: value})

    assert caught.value.field == name
    assert f"DISPATCHER_{name}" in str(caught.value)


def test_what_each_relay_is_given_is_read(tmp_path: Path) -> None:
    url = "smtp://a?weight=3&rate=2.5&per_connection=100 smtp://b:2525?weight=0&starttls=never smtp://a:587"

    first, second, third = load(tmp_path, SMTP_URL=url).relays

    assert (first.weight, first.rate, first.per_connection, first.lanes) == (3, 2.5, 100, config.DEFAULT_LANES)
    assert (second.weight, second.rate, second.per_connection, second.starttls) == (0, 0, 0, "never")
    assert (third.weight, third.name) == (1, "a:587")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("smtp://a?weight=0", "weight 0"),
        ("smtp://a?weight=0 smtp://b?weight=0", "weight 0"),
        ("smtp://a?weight=-1", "weight is a whole number"),
        ("smtp://a?weight=101", "weight is a whole number"),
        ("smtp://a?weight=1.5", "weight is a whole number"),
        ("smtp://a?weight=", "weight is a whole number"),
        ("smtp://a?rate=-5", "rate is messages per second"),
        ("smtp://a?rate=fast", "rate is messages per second"),
        ("smtp://a?rate=nan", "rate is messages per second"),
        ("smtp://a?rate=inf", "rate is messages per second"),
        ("smtp://a?rate=0.001", "rate is messages per second"),
        ("smtp://a?per_connection=-1", "per_connection is a whole number"),
        ("smtp://a?per_connection=²", "per_connection is a whole number"),
        ("smtp://a smtp://b smtp://a:25?weight=2", "a:25 more than once"),
        ("smtp://a?speed=9", "unknown option: speed"),
        ("smtp://[::1", "not a URL"),
        ("smtp://", "must look like"),
    ],
)
def test_what_no_relay_can_be_given_is_refused_in_words(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(Misconfigured, match=words) as caught:
        load(tmp_path, SMTP_URL=url)

    assert caught.value.field == "SMTP_URL"


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


OIDC = {"OIDC_ISSUER": "https://login.courier.example", "OIDC_CLIENT_ID": "desk", "OIDC_CLIENT_SECRET": "hush, hush"}


def test_a_sign_in_service_is_set_whole_or_not_at_all(tmp_path: Path) -> None:
    settings = load(tmp_path, **OIDC)

    assert load(tmp_path).oidc is None
    assert settings.oidc is not None
    assert (settings.oidc.name, settings.oidc.origin) == ("login.courier.example", "https://login.courier.example")
    assert "hush" not in repr(settings)
    for name in OIDC:
        with pytest.raises(Misconfigured) as caught:
            load(tmp_path, **{**OIDC, name: None})
        assert caught.value.field == name
    for issuer in (
        "http://login.courier.example",
        "login.courier.example",
        "https://a@b.example",
        "https://a.example?x",
    ):
        with pytest.raises(Misconfigured, match="OIDC_ISSUER"):
            load(tmp_path, **{**OIDC, "OIDC_ISSUER": issuer})
