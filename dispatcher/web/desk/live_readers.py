"""The readers behind a number of the live page: as a list, and as a file."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlencode

from starlette.responses import Response, StreamingResponse

from dispatcher import watching
from dispatcher.addresses import masked
from dispatcher.csvfiles import guarded
from dispatcher.errors import Invalid
from dispatcher.model import ChannelName, DeliveryState
from dispatcher.roles import What
from dispatcher.watching import Listed, Wanted
from dispatcher.web.desk.live import path_of, place
from dispatcher.web.desk.visiting import Visit
from dispatcher.web.readers import PRIVATE

COLUMNS = (
    *("channel", "reader", "email", "device", "state", "reason", "code", "reply", "relay", "attempts"),
    *("recorded_at", "next_at"),
)
MAX_REASON = 40
_Word = TypeVar("_Word", bound=StrEnum)


async def readers(visit: Visit) -> Response:
    """`…/readers`: `?channel=`, `?state=` and `?reason=` choose, `?after=` turns the page.

    Whoever may look readers up sees addresses; others see them masked.
    """
    slug, seq = place(visit)
    asked = dict(visit.request.query_params)
    wanted = _wanted(asked)
    page = await watching.readers(visit.here.database, slug, seq, wanted, after=asked.get("after", ""))
    watched = await watching.look(visit.here.database, slug, seq)
    given = {name: value for name, value in _given(wanted).items() if value}
    path = f"{path_of(slug, seq)}/readers"
    return visit.page(
        "live_readers.html",
        at="stories",
        watched=watched,
        path=path,
        live=path_of(slug, seq),
        wanted=wanted,
        given=given,
        readers=page.readers,
        states=list(DeliveryState),
        channels=watching.CHANNELS,
        sees_addresses=visit.person.may(What.READERS),
        is_first=not asked.get("after"),
        first=f"{path}?{urlencode(given)}" if given else path,
        older="" if page.after is None else f"{path}?{urlencode({**given, 'after': page.after})}",
        now=watched.now,
    )


async def download(visit: Visit) -> Response:
    """`POST …/readers.csv`: the same readers, all of them, as CSV. The log of the desk says who took it."""
    slug, seq = place(visit)
    wanted = _wanted(visit.form.fields)
    detail = {name: value for name, value in _given(wanted).items() if value}
    await watching.note_download(visit.here.database, slug, seq, by=visit.person.email, detail=detail)
    name = f"{slug}-{'drill' if seq < 0 else 'update'}-{abs(seq)}.csv"
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(_lines(visit, slug, seq, wanted), media_type="text/csv; charset=utf-8", headers=headers)


async def _lines(visit: Visit, slug: str, seq: int, wanted: Wanted) -> AsyncIterator[str]:
    """The file in pieces, each of which is forgotten once it is sent."""
    sees_addresses = visit.person.may(What.READERS)
    yield _csv([COLUMNS])
    async for some in watching.every_page(visit.here.database, slug, seq, wanted):
        yield _csv([_cells(reader, sees_addresses) for reader in some])


def _cells(reader: Listed, sees_addresses: bool) -> tuple[str, ...]:
    email = reader.email or ""
    cells = (
        str(reader.channel),
        str(reader.reader_id or ""),
        email if sees_addresses or not email else masked(email),
        reader.device or "",
        str(reader.state),
        reader.reason.words,
        "" if reader.code is None else str(reader.code),
        reader.reply,
        reader.relay,
        str(reader.attempts),
        reader.recorded_at.isoformat(),
        "" if reader.next_at is None else reader.next_at.isoformat(),
    )
    return tuple(guarded(cell) for cell in cells)


def _csv(rows: list[tuple[str, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _wanted(fields: Mapping[str, str]) -> Wanted:
    """What an address or a form asks for. Raises `Invalid`."""
    reason = fields.get("reason", "")[:MAX_REASON]
    state = _one_of(DeliveryState, fields.get("state", ""), "state")
    if reason and state in (None, DeliveryState.ACCEPTED):
        raise Invalid("A reason belongs to a state.", remedy="Choose failed, deferred or in doubt too.", field="reason")
    return Wanted(channel=_one_of(ChannelName, fields.get("channel", ""), "channel"), state=state, reason=reason)


def _one_of(kind: type[_Word], word: str, field: str) -> _Word | None:
    try:
        return kind(word) if word else None
    except ValueError as error:
        raise Invalid(f"There is no such {field}.", remedy="Choose one from the list.", field=field) from error


def _given(wanted: Wanted) -> dict[str, str]:
    return {
        "channel": str(wanted.channel or ""),
        "state": str(wanted.state or ""),
        "reason": wanted.reason,
    }
