"""Who the newsroom is: to its readers by name, language, logo and colours; and who vouches for its people."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from dispatcher.errors import Misconfigured
from dispatcher.texts import DEFAULT_TIMEZONE, is_timezone

PREFIX = "DISPATCHER_"
#: Languages that pages and mails speak.
LANGUAGES = ("en", "uk")


@dataclass(frozen=True, kw_only=True, slots=True)
class Newsroom:
    """Who the mails and pages come from."""

    name: str = "Newsroom alerts"
    address: str = ""  #: postal address, shown at the foot of every mail and page where it is set
    language: str = "en"  #: for whoever has not chosen one of `LANGUAGES`
    timezone: str = DEFAULT_TIMEZONE  #: whose clock the desk schedules by; an IANA name
    logo: Path | None = None  #: an SVG or PNG file that stands in place of the name at the head of pages
    colours: tuple[str, str] | None = None  #: of head and main buttons, light and dark, as `#rrggbb`; None: ink


def newsroom(values: Mapping[str, str]) -> Newsroom:
    """The newsroom of these settings, by their short names. Raises `Misconfigured`, naming the variable."""
    language = values.get("NEWSROOM_LANGUAGE", Newsroom().language)
    if language not in LANGUAGES:
        raise Misconfigured(f"{PREFIX}NEWSROOM_LANGUAGE is {' or '.join(LANGUAGES)}.", field="NEWSROOM_LANGUAGE")
    return Newsroom(
        name=_one_line("NEWSROOM", values.get("NEWSROOM", Newsroom().name)),
        address=_one_line("NEWSROOM_ADDRESS", values.get("NEWSROOM_ADDRESS", "")),
        language=language,
        timezone=_timezone(values.get("TIMEZONE", Newsroom().timezone)),
        logo=_logo(values["NEWSROOM_LOGO"]) if values.get("NEWSROOM_LOGO") else None,
        colours=_colours(values["NEWSROOM_COLOUR"]) if values.get("NEWSROOM_COLOUR") else None,
    )


def _timezone(value: str) -> str:
    if not is_timezone(value):
        raise Misconfigured(
            f"{PREFIX}TIMEZONE is no timezone: {value[:60]!r}.",
            remedy="Take its IANA name, such as Europe/Kyiv; UTC is what holds without it.",
            field="TIMEZONE",
        )
    return value


#: Bytes that a logo may have: every page shows it.
MAX_LOGO = 32_000


def _logo(value: str) -> Path:
    path = Path(value).expanduser()
    try:
        size = path.stat().st_size
    except OSError as error:
        raise Misconfigured(
            f"{PREFIX}NEWSROOM_LOGO cannot be read: {error.strerror}.", field="NEWSROOM_LOGO"
        ) from error
    if path.suffix not in (".svg", ".png") or size > MAX_LOGO:
        raise Misconfigured(
            f"{PREFIX}NEWSROOM_LOGO is an .svg or .png file of at most {MAX_LOGO // 1000} KB.", field="NEWSROOM_LOGO"
        )
    return path


#: The grounds that the newsroom's colour stands on and against, in light and in dark pages.
GROUNDS = ("#ffffff", "#191c1f")
LEAST_CONTRAST = 4.5


def _colours(value: str) -> tuple[str, str]:
    """One colour for light pages and one for dark ones, each readable there (WCAG 2.2, 1.4.3)."""
    found = value.lower().split()
    if len(found) != 2 or not all(re.fullmatch(r"#[0-9a-f]{6}", each) for each in found):
        raise Misconfigured(
            f"{PREFIX}NEWSROOM_COLOUR is two colours, for light and for dark pages: '#0a3d62 #8ec5ff'.",
            field="NEWSROOM_COLOUR",
        )
    for colour, ground in zip(found, GROUNDS, strict=True):
        if (ratio := contrast(colour, ground)) < LEAST_CONTRAST:
            raise Misconfigured(
                f"{PREFIX}NEWSROOM_COLOUR: {colour} on {ground} has a contrast of {ratio:.1f}; "
                f"{LEAST_CONTRAST} is the least that people can read.",
                remedy="Take a darker colour for light pages and a lighter one for dark pages.",
                field="NEWSROOM_COLOUR",
            )
    return found[0], found[1]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, `#rrggbb` each, from 1 to 21 (WCAG 2.2, contrast ratio)."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _one_line(name: str, value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", value) or len(value) > 200:
        raise Misconfigured(f"{PREFIX}{name} must be one line of at most 200 characters.", field=name)
    return value


@dataclass(frozen=True, kw_only=True, slots=True)
class OidcSettings:
    """The newsroom's own OpenID provider, and who we are to it."""

    issuer: str  #: exactly as the provider names itself
    client_id: str
    client_secret: str = field(repr=False)

    @property
    def origin(self) -> str:
        parts = urlsplit(self.issuer)
        return f"{parts.scheme}://{parts.netloc}"

    @property
    def name(self) -> str:
        """The provider as people know it: by its host."""
        return urlsplit(self.issuer).hostname or ""


def oidc(values: Mapping[str, str]) -> OidcSettings | None:
    """The sign-in service of these settings, if there is one. Raises `Misconfigured`, naming the variable."""
    issuer, client_id = values.get("OIDC_ISSUER", ""), values.get("OIDC_CLIENT_ID", "")
    client_secret = values.get("OIDC_CLIENT_SECRET", "")
    if not (issuer or client_id or client_secret):
        return None
    for name, value in (("ISSUER", issuer), ("CLIENT_ID", client_id), ("CLIENT_SECRET", client_secret)):
        if not value:
            raise Misconfigured(
                f"{PREFIX}OIDC_{name} is not set, but others of the sign-in service are.",
                remedy="Set issuer, client id and client secret, or none of them.",
                field=f"OIDC_{name}",
            )
    parts = urlsplit(issuer)
    is_here = parts.scheme == "http" and parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not (parts.scheme == "https" or is_here) or not parts.hostname or parts.query or parts.fragment or "@" in issuer:
        raise Misconfigured(
            f"{PREFIX}OIDC_ISSUER is no https address.",
            remedy="Write it as the provider names itself: https://login.courier.example.",
            field="OIDC_ISSUER",
        )
    return OidcSettings(issuer=issuer, client_id=client_id, client_secret=client_secret)
