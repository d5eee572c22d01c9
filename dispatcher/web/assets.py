"""Stylesheets, scripts and pictures: each under a URL that holds the hash of its content, to be kept for a year."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from dispatcher.config import MAX_LOGO, Newsroom
from dispatcher.errors import Misconfigured, NotFound
from dispatcher.rendering import template_dir

MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
#: What the newsroom's own look is served as.
BRAND = "brand.css"


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    compressed: bytes
    media_type: str
    digest: str


class Assets:
    """Everything in `templates/web` that is served as it is, and the newsroom's logo and colours; read once.

    Raises `Misconfigured` if the logo cannot be read.
    """

    def __init__(self, newsroom: Newsroom | None = None) -> None:
        newsroom = newsroom or Newsroom()
        files = sorted((template_dir() / "web").iterdir())
        self._assets = {
            file.name: _read(file.read_bytes(), MEDIA[file.suffix]) for file in files if file.suffix in MEDIA
        }
        self.logo: str | None = None  #: the name of the newsroom's logo among the assets
        if newsroom.logo is not None:
            self.logo = f"logo{newsroom.logo.suffix}"
            self._assets[self.logo] = _read(_logo(newsroom), MEDIA[newsroom.logo.suffix])
        if newsroom.colours is not None:
            self._assets[BRAND] = _read(_colours(*newsroom.colours), MEDIA[".css"])

    @property
    def has_brand(self) -> bool:
        """Whether the newsroom has colours of its own."""
        return BRAND in self._assets

    def content(self, name: str) -> bytes:
        """An asset as it is. Raises KeyError for a name that is none."""
        return self._assets[name].content

    def url(self, name: str) -> str:
        """Where an asset is, as a path. Raises KeyError for a name that is none."""
        return f"/static/{self._assets[name].digest}/{name}"

    async def serve(self, request: Request) -> Response:
        """`/static/{digest}/{name}`. A page from before an upgrade gets what there is now, for now."""
        asset = self._assets.get(request.path_params["name"])
        if asset is None:
            raise NotFound("There is no such file.")
        known = request.path_params["digest"] == asset.digest
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable" if known else "no-cache",
            "Vary": "Accept-Encoding",
        }
        content = asset.content
        if "gzip" in request.headers.get("accept-encoding", ""):
            content, headers["Content-Encoding"] = asset.compressed, "gzip"
        return Response(content, headers=headers, media_type=asset.media_type)


def _read(content: bytes, media_type: str) -> Asset:
    digest = hashlib.blake2b(content, digest_size=8).hexdigest()
    return Asset(content, gzip.compress(content, mtime=0), media_type, digest)


def _logo(newsroom: Newsroom) -> bytes:
    assert newsroom.logo is not None  # noqa: S101  # asked for only where there is one
    try:
        with newsroom.logo.open("rb") as file:
            found = file.read(MAX_LOGO + 1)
    except OSError as error:
        raise Misconfigured(f"The newsroom's logo cannot be read: {error.strerror}.", field="NEWSROOM_LOGO") from error
    if len(found) > MAX_LOGO:
        raise Misconfigured(f"The newsroom's logo has more than {MAX_LOGO} bytes.", field="NEWSROOM_LOGO")
    return found


def _colours(light: str, dark: str) -> bytes:
    """The newsroom's stylesheet: one colour for light pages and one for dark ones."""
    return (
        f":root {{ --main: {light}; }}\n@media (prefers-color-scheme: dark) {{ :root {{ --main: {dark}; }} }}\n"
    ).encode()
