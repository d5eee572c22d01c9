"""The web process: API and pages in one application, and the server that runs it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
import uvicorn
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import dispatcher
from dispatcher import db, monitoring
from dispatcher.api import openapi, problems
from dispatcher.api.routes import router
from dispatcher.config import Settings
from dispatcher.errors import DispatcherError, Misconfigured
from dispatcher.nudges import Bell
from dispatcher.people.oidc import Provider
from dispatcher.reporting import SchemaOutdated
from dispatcher.uploading import Uploads
from dispatcher.watching import Watchers
from dispatcher.web.assets import Assets
from dispatcher.web.desk.live_stream import Streams
from dispatcher.web.desk.visiting import error_page as desk_error
from dispatcher.web.figures import Figures
from dispatcher.web.front import Front, front
from dispatcher.web.guards import BodyLimit, Caught, Head, SecurityHeaders, Unexpected
from dispatcher.web.heads import BoundedHead
from dispatcher.web.routes import routes

log = structlog.get_logger()

#: Seconds that open requests have to end after a signal to stop.
GRACE = 2
#: Addresses that machines ask: errors there are problem documents.
FOR_MACHINES = ("/api/", "/push/", "/healthz", "/readyz", "/metrics")


def create_app(settings: Settings, *, watch_every: float = monitoring.EVERY) -> FastAPI:
    """The application. It starts without its database and its broker, and says so at `/readyz`.

    Every `watch_every` seconds it looks round for what is not well: somebody has to when no worker lives.
    """
    assets = Assets(settings.newsroom)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with db.Database(settings.database_url, size=settings.database_pool) as database:
            app.state.settings = settings
            app.state.database = database
            app.state.bell = Bell(settings.broker_url)
            app.state.front = Front.of(settings, database, assets)
            app.state.figures = Figures(database)
            app.state.uploads = Uploads(database, settings.secret_key)
            app.state.provider = provider = (
                None if settings.oidc is None else Provider(settings.oidc, settings.public_url, settings.secret_key)
            )
            app.state.streams = Streams(Watchers(database))
            here: Front = app.state.front
            watching = asyncio.create_task(monitoring.watch_for_ever(database, watch_every))
            making = asyncio.create_task(_make_keys(here))
            try:
                yield
            finally:
                watching.cancel()
                making.cancel()
                app.state.streams.watchers.close()
                await app.state.uploads.close()
                if provider is not None:
                    await provider.close()
                parts = (app.state.figures, here.limiter, here.previews, here.links, here.counts)
                closing = [each.close() for each in parts]
                await asyncio.gather(watching, making, *closing, return_exceptions=True)

    app = FastAPI(
        title="Dispatcher",
        version=dispatcher.__version__,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        # It would lead to whatever host the asker names, and without TLS behind a proxy that has it.
        redirect_slashes=False,
        # Spans would carry whole addresses, and ours hold tokens.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.include_router(router)
    app.router.routes.extend(routes(assets, has_inbox=settings.inbox_dir is not None))
    app.openapi = lambda: openapi.document(app, settings.public_url, SchemaOutdated, Unexpected)  # type: ignore[method-assign]
    app.add_route(openapi.JSON_PATH, _openapi_json, methods=["GET"], include_in_schema=False)
    app.add_exception_handler(DispatcherError, _on_error)
    app.add_exception_handler(HTTPException, _on_error)
    app.add_exception_handler(RequestValidationError, _on_error)
    # The last that is added stands outermost.
    app.add_middleware(BodyLimit)
    app.add_middleware(Head)
    app.add_middleware(Caught, show=_show)
    app.add_middleware(SecurityHeaders, https=settings.public_url.startswith("https://"))
    return app


def serve(settings: Settings, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT; open requests then have 2 s to end. Raises `Misconfigured` if the port is taken.

    Nothing is logged per request: addresses hold tokens. Headers of proxies are not believed.
    """
    with _listen(host, port) as listening:
        server = uvicorn.Server(server_config(create_app(settings)))
        log.info("serving", address=f"http://{host}:{listening.getsockname()[1]}", public_url=settings.public_url)
        try:
            server.run(sockets=[listening])
        except KeyboardInterrupt:
            log.info("stopped")


def server_config(app: FastAPI) -> uvicorn.Config:
    """How uvicorn serves the application."""
    return uvicorn.Config(
        app,
        loop="uvloop",
        http=BoundedHead,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=15,
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(2048)
    except OSError as error:
        listening.close()
        raise Misconfigured(
            f"{host}:{port} cannot be listened at: {error.strerror or error}.",
            remedy="Choose another port, or end the program that has it.",
            field="port",
        ) from error
    return listening


async def _make_keys(here: Front) -> None:
    """Make the key pair for web push before anybody asks for it: looking at a page then changes nothing."""
    try:
        await here.vapid.public_key()
    except DispatcherError as error:
        log.warning("no key pair for web push yet", reason=error.message)


async def _openapi_json(request: Request) -> Response:
    return JSONResponse(request.app.openapi(), headers={"Cache-Control": "public, max-age=60"})


async def _on_error(request: Request, error: Exception) -> Response:
    headers: dict[str, str] = {}
    if isinstance(error, HTTPException):
        headers = dict(error.headers or {})
        error = problems.explain(error)
    elif isinstance(error, RequestValidationError):
        error = problems.invalid(request, error)
    assert isinstance(error, DispatcherError)  # noqa: S101  # it is registered for these three
    return await _show(request, error, headers)


async def _show(request: Request, error: DispatcherError, headers: dict[str, str] | None = None) -> Response:
    """An error as a problem document for machines, and as a page for everybody else."""
    if request.scope["path"].startswith(FOR_MACHINES):
        return problems.response(error, f"{request.app.state.settings.public_url}{openapi.DOCS_PATH}", headers)
    if f"{request.scope['path']}/".startswith("/desk/"):
        return desk_error(request, error, {**problems.more_headers(error), **(headers or {})})
    return front(request).page(
        request,
        "error.html",
        status=error.status,
        headers={**problems.more_headers(error), **(headers or {})},
        error=error,
        kind=type(error).__name__,
    )
