"""Settings, read from the environment once, checked at the door.

Every setting is `DISPATCHER_<NAME>`. What is unset comes from the box that runs in the data directory
(`dispatcher up`), so one machine needs no setting at all.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from dispatcher.errors import Misconfigured
from dispatcher.identity import LANGUAGES, MAX_LOGO, PREFIX, Newsroom, OidcSettings, newsroom, oidc
from dispatcher.model import InDoubt

__all__ = [
    "LANGUAGES",
    "MAX_LOGO",
    "PREFIX",
    "Newsroom",
    "OidcSettings",
    "RelaySettings",
    "Settings",
    "as_env",
    "data_dir",
    "load",
    "running_box",
]

DEFAULT_LANES = 10
#: Secrets that people copy from an example. Nobody may run with one of them outside development.
KNOWN_SECRETS = frozenset({"change-me", "changeme", "changethis", "secret", "dispatcher", "development"})
MIN_SECRET = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class RelaySettings:
    """Where and how to hand mail to one relay, parsed from `smtp://user:pass@host:port?starttls=…&lanes=10&weight=2`."""

    host: str
    port: int
    tls: bool = False  #: TLS from the first byte (smtps://)
    starttls: str = "auto"  #: `auto`: if offered; `require`: or do not send; `never`
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    lanes: int = DEFAULT_LANES  #: connections that one worker process keeps open at most
    weight: int = 1  #: its share of the mail beside the other relays', in lanes; 0: only while no other takes mail
    rate: float = 0.0  #: messages per second at most, over all processes; 0: no limit
    per_connection: int = 0  #: messages at most before a connection is renewed; 0: no limit

    @property
    def name(self) -> str:
        """The relay as logs and reports name it: without any secret."""
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, url: str) -> RelaySettings:
        """Read a relay from its URL. Raises `Misconfigured`, naming the part that is wrong."""
        where = f"{PREFIX}SMTP_URL"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise Misconfigured(f"{where} is not a URL: {error}.", field="SMTP_URL") from error
        if parts.scheme not in ("smtp", "smtps") or not parts.hostname:
            raise Misconfigured(
                f"{where} must look like smtp://user:password@host:587.",
                remedy="Use smtp:// (with STARTTLS where offered) or smtps:// (TLS from the start).",
                field="SMTP_URL",
            )
        options = {key: values[-1] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        unknown = options.keys() - {"starttls", "lanes", "weight", "rate", "per_connection"}
        if unknown:
            raise Misconfigured(
                f"{where} has an unknown option: {', '.join(sorted(unknown))}.",
                remedy="Known are starttls=auto|require|never, lanes, weight, rate and per_connection.",
                field="SMTP_URL",
            )
        starttls = {"true": "require", "1": "require", "false": "never", "0": "never"}.get(
            options.get("starttls", "auto"), options.get("starttls", "auto")
        )
        if starttls not in ("auto", "require", "never"):
            raise Misconfigured(f"{where}: starttls is auto, require or never.", field="SMTP_URL")
        tls = parts.scheme == "smtps"
        return cls(
            host=parts.hostname,
            port=port or (465 if tls else 25),
            tls=tls,
            starttls=starttls,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            lanes=_number(options, "lanes", DEFAULT_LANES, 1, 200),
            weight=_number(options, "weight", 1, 0, 100),
            rate=_rate(options.get("rate", "0")),
            per_connection=_number(options, "per_connection", 0, 0, 1_000_000),
        )


def _number(options: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    value = options.get(name, str(default))
    if not (value.isascii() and value.isdecimal()) or not low <= int(value) <= high:
        raise Misconfigured(
            f"{PREFIX}SMTP_URL: {name} is a whole number from {low} to {high}, not {value[:20]!r}.", field="SMTP_URL"
        )
    return int(value)


def _rate(value: str) -> float:
    """Messages per second; 0 where there is no limit."""
    try:
        rate = float(value)
    except ValueError:
        rate = -1.0
    if not (rate == 0 or 0.01 <= rate <= 100_000):
        raise Misconfigured(
            f"{PREFIX}SMTP_URL: rate is messages per second, from 0.01 to 100000, not {value[:20]!r}.",
            remedy="Leave it out for no limit.",
            field="SMTP_URL",
        )
    return rate


#: Where browsers have their pushes delivered: hosts, `*.` for one more label or several before it, or a whole origin.
PUSH_SERVICES = (
    "fcm.googleapis.com",
    "updates.push.services.mozilla.com",
    "*.push.services.mozilla.com",
    "*.push.apple.com",
    "*.notify.windows.com",
)
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
#: Asks a minute, over all processes, beyond which forms want a proof of work.
DEFAULT_BRAKE = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything that Dispatcher reads from its surroundings."""

    data_dir: Path
    database_url: str = field(repr=False)
    broker_url: str = field(repr=False)
    relays: tuple[RelaySettings, ...]
    public_url: str  #: without a slash at the end
    mail_from: Address
    secret_key: str = field(repr=False)
    newsroom: Newsroom = field(default_factory=Newsroom)
    inbox_dir: Path | None = None  #: the embedded mail catcher's Maildir; None where a real relay is set
    database_pool: int = 8
    in_doubt: InDoubt = InDoubt.RESEND  #: for messages without an answer, where their story does not say
    push_services: tuple[str, ...] = PUSH_SERVICES  #: the only places that pushes are sent to
    embed_origins: tuple[str, ...] = ()  #: sites whose pages may hold our form, as `https://host`
    trusted_proxies: tuple[Network, ...] = ()  #: whose X-Forwarded-For is believed
    brake: int = DEFAULT_BRAKE
    oidc: OidcSettings | None = None  #: None: people of the desk sign in with passwords alone
    development: bool = False

    @property
    def mail_domain(self) -> str:
        """The domain that Message-IDs are made in: that of the sender's address."""
        return self.mail_from.domain


def default_data_dir() -> Path:
    """Where a box keeps its data when DISPATCHER_DATA_DIR is unset.

    As root this is under /var/lib, because Postgres then runs as `nobody`, who cannot enter root's home.
    """
    if os.geteuid() == 0:
        return Path("/var/lib/dispatcher")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "dispatcher"


def data_dir(env: Mapping[str, str] | None = None) -> Path:
    """The data directory, as an absolute path."""
    env = os.environ if env is None else env
    return Path(env.get(f"{PREFIX}DATA_DIR") or default_data_dir()).expanduser().absolute()


def running_box(directory: Path) -> dict[str, str]:
    """The settings of the box that runs in `directory`; empty if none does.

    A box holds a lock on `box.lock` while it lives, so a stale `box.json` never misleads.
    """
    try:
        with (directory / "box.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            found: dict[str, str] = json.loads((directory / "box.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}  # the box is only just starting
        return found
    except OSError:
        pass
    return {}


def load(env: Mapping[str, str] | None = None) -> Settings:
    """Read and check the settings. Raises `Misconfigured`, naming the variable and the remedy."""
    env = os.environ if env is None else env
    directory = data_dir(env)
    box: Mapping[str, str] = running_box(directory)
    explicit = {key.removeprefix(PREFIX): value.strip() for key, value in env.items() if key.startswith(PREFIX)}
    values: dict[str, str] = {**box, **{key: value for key, value in explicit.items() if value}}

    def need(name: str) -> str:
        if name not in values:
            raise Misconfigured(
                f"{PREFIX}{name} is not set, and no box is running in {directory}.",
                remedy=f"Start one with `dispatcher up`, or set {PREFIX}{name}.",
                field=name,
            )
        return values[name]

    development = values.get("ENV", "production") == "development"
    return Settings(
        data_dir=directory,
        database_url=_database_url(need("DATABASE_URL")),
        broker_url=_broker_url(need("BROKER_URL")),
        relays=_relays(need("SMTP_URL")),
        public_url=_public_url(need("PUBLIC_URL")),
        mail_from=_mail_from(values.get("MAIL_FROM", "Newsroom alerts <alerts@localhost>")),
        secret_key=_secret(need("SECRET_KEY"), development=development),
        newsroom=newsroom(values),
        inbox_dir=Path(values["INBOX_DIR"]) if values.get("INBOX_DIR") else None,
        database_pool=_count("DATABASE_POOL", values.get("DATABASE_POOL", "8"), 2, 100),
        in_doubt=_in_doubt(values.get("IN_DOUBT", str(InDoubt.RESEND))),
        push_services=(*PUSH_SERVICES, *_push_services(values.get("PUSH_SERVICES", ""))),
        embed_origins=tuple(_origin("EMBED_ORIGINS", each) for each in values.get("EMBED_ORIGINS", "").split()),
        trusted_proxies=_networks(values.get("TRUSTED_PROXIES", "")),
        brake=_count("BRAKE", values.get("BRAKE", str(DEFAULT_BRAKE)), 1, 1_000_000),
        oidc=oidc(values),
        development=development,
    )


def as_env(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings by short name as environment variables for a child process."""
    return {f"{PREFIX}{key}": str(value) for key, value in settings.items()}


def _database_url(value: str) -> str:
    if not value.startswith(("postgresql://", "postgres://")):
        raise Misconfigured(
            f"{PREFIX}DATABASE_URL must look like postgresql://user:password@host:5432/name.", field="DATABASE_URL"
        )
    return value


def _broker_url(value: str) -> str:
    schemes = ("redis://", "rediss://", "redis+socket://", "unix://", "amqp://", "amqps://")
    if not value.startswith(schemes):
        raise Misconfigured(
            f"{PREFIX}BROKER_URL must start with {', '.join(schemes[:3])} or amqp://.", field="BROKER_URL"
        )
    return value


def _relays(value: str) -> tuple[RelaySettings, ...]:
    relays = tuple(RelaySettings.parse(url) for url in value.split())
    names = [relay.name for relay in relays]
    if twice := {name for name in names if names.count(name) > 1}:
        raise Misconfigured(f"{PREFIX}SMTP_URL names {', '.join(sorted(twice))} more than once.", field="SMTP_URL")
    if not any(relay.weight for relay in relays):
        raise Misconfigured(
            f"{PREFIX}SMTP_URL gives every relay the weight 0: no mail would ever go out.",
            remedy="Leave `weight` out, or give one relay at least 1; 0 means: only while no other takes mail.",
            field="SMTP_URL",
        )
    return relays


def _public_url(value: str) -> str:
    parts = urlsplit(value)
    usable = value.isascii() and not re.search(r"[\x00-\x20<>\"\\^`{|}\x7f]", value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or not usable:
        raise Misconfigured(
            f"{PREFIX}PUBLIC_URL must be the http(s) address under which readers reach the pages, in ASCII.",
            remedy="For example https://alerts.example.org; bücher.example is written xn--bcher-kva.example.",
            field="PUBLIC_URL",
        )
    return value.rstrip("/")


def _mail_from(value: str) -> Address:
    name, spec = parseaddr(value)
    problem = Misconfigured(
        f"{PREFIX}MAIL_FROM must be an address such as `The Courier <alerts@courier.example>`.", field="MAIL_FROM"
    )
    if re.search(r"[\x00-\x1f\x7f]", value) or spec.count("@") != 1:
        raise problem
    try:
        local, domain = spec.rsplit("@", 1)
        # It stands in envelopes and Message-IDs, which only few relays take in anything but ASCII.
        domain = domain if domain.isascii() else domain.encode("idna").decode()
        address = Address(display_name=name, username=local, domain=domain)
    except (ValueError, IndexError, UnicodeError) as error:
        raise problem from error
    if not address.addr_spec.isascii() or not local or not domain or " " in spec:
        raise problem
    return address


def _secret(value: str, *, development: bool) -> str:
    if not development and (value.lower() in KNOWN_SECRETS or len(value) < MIN_SECRET):
        raise Misconfigured(
            f"{PREFIX}SECRET_KEY is an example or shorter than {MIN_SECRET} characters.",
            remedy="Set one of your own: `python3 -c 'import secrets; print(secrets.token_urlsafe(48))'`.",
            field="SECRET_KEY",
        )
    return value


def _in_doubt(value: str) -> InDoubt:
    try:
        return InDoubt(value)
    except ValueError:
        raise Misconfigured(
            f"{PREFIX}IN_DOUBT is {' or '.join(InDoubt)}.",
            remedy="`resend` sends a message without an answer again; `hold` leaves it to a person.",
            field="IN_DOUBT",
        ) from None


def _count(name: str, value: str, low: int, high: int) -> int:
    if not value.isdecimal() or not low <= int(value) <= high:
        raise Misconfigured(f"{PREFIX}{name} is a whole number from {low} to {high}.", field=name)
    return int(value)


def _push_services(value: str) -> tuple[str, ...]:
    """Hosts, `*.host`, or whole origins. An origin that is written out is trusted, also on a private address."""
    services = value.lower().split()
    for each in services:
        if "://" in each:
            _origin("PUSH_SERVICES", each)
        elif not re.fullmatch(r"(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)+", each):
            raise Misconfigured(
                f"{PREFIX}PUSH_SERVICES: {each[:100]!r} is no host.",
                remedy="Write push.example.org, *.push.example.org or https://push.example.org:8443.",
                field="PUSH_SERVICES",
            )
    return tuple(services)


def _origin(name: str, value: str) -> str:
    try:
        parts = urlsplit(value)
        valid = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and f"{parts.scheme}://{parts.netloc}" == value
        )
        valid = valid and parts.port != 0 and "@" not in value and value.isascii() and value == value.lower()
    except ValueError:
        valid = False
    if not valid:
        raise Misconfigured(
            f"{PREFIX}{name}: {value[:100]!r} is no origin.",
            remedy="Write scheme and host, in small letters and without a slash at the end: https://www.courier.example.",
            field=name,
        )
    return value


def _networks(value: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(each) for each in value.split())
    except ValueError as error:
        raise Misconfigured(
            f"{PREFIX}TRUSTED_PROXIES: {error}.",
            remedy="Write addresses or networks with spaces between them: 10.0.0.5 10.1.0.0/16.",
            field="TRUSTED_PROXIES",
        ) from error
