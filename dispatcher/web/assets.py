"""Stylesheet, scripts and icon: each under a URL that holds the hash of its content, to be kept for a year."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from dispatcher.errors import NotFound
from dispatcher.rendering import template_dir

MEDIA = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class Asset:
    content: bytes
    compressed: bytes
    media_type: str
    digest: str


class Assets:
    """Everything in `templates/web` that is served as it is, read once."""

    def __init__(self) -> None:
        files = sorted((template_dir() / "web").iterdir())
        self._assets = {
            file.name: _read(file.read_bytes(), MEDIA[file.suffix]) for file in files if file.suffix in MEDIA
        }

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
