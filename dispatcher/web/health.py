"""For machines: is the process up, can it work, how is the fleet."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import dispatcher
from dispatcher import reporting
from dispatcher.errors import DatabaseUnavailable
from dispatcher.web.figures import Figures
from dispatcher.web.front import front

#: Seconds that machines wait for the database to answer: they ask again soon, and rather know.
WITHIN = 2.0


async def healthz(_: Request) -> Response:
    """`/healthz`: this process answers. It asks nobody else."""
    return JSONResponse({"status": "up", "version": dispatcher.__version__})


async def readyz(request: Request) -> Response:
    """`/readyz`: this process can do its work, or 503 with what is missing."""
    try:
        async with asyncio.timeout(WITHIN):
            await reporting.ready(front(request).database)
    except TimeoutError as error:
        raise DatabaseUnavailable(f"The database did not answer within {WITHIN:g} seconds.") from error
    return JSONResponse({"status": "ready"})


async def metrics(request: Request) -> Response:
    """`/metrics`: the fleet as Postgres knows it, at most a few seconds ago, and this process, for Prometheus."""
    figures: Figures = request.app.state.figures
    registry = CollectorRegistry()
    registry.register(await figures.scrape())
    ProcessCollector(registry=registry)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
