"""Mails to people of the desk about a draft: what went out without approval, what did not go out, what will not."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC

import structlog

from dispatcher import db
from dispatcher.addresses import address_hash, parse_address
from dispatcher.config import Settings
from dispatcher.drafting.writing import Writing
from dispatcher.errors import Invalid
from dispatcher.model import Importance, NoticeKind
from dispatcher.people import Person
from dispatcher.roles import What

log = structlog.get_logger()

#: Seconds for which such a mail is worth sending.
MAIL_LIFE = 2 * 86400.0


async def tell_leads(tx: db.Connection, settings: Settings, kind: NoticeKind, detail: dict[str, str]) -> None:
    """Owe every lead who works here a mail."""
    await _owe(tx, settings, kind, await _leads(tx), detail)


async def tell_not_sent(tx: db.Connection, settings: Settings, writing: Writing, *, why: str) -> None:
    """Owe a mail to whoever scheduled a draft that did not go out at its time, and to its author.

    The leads get it too if it is breaking news, or if nobody else who is told may send.
    """
    told = [each for each in (writing.scheduled_by, writing.author) if each is not None and each.ended_at is None]
    emails = [each.email for each in told]
    if writing.text.importance is Importance.BREAKING or not any(each.may(What.SEND) for each in told):
        emails += await _leads(tx)
    scheduler = "" if writing.scheduled_by is None else writing.scheduled_by.name
    detail = {**_about(writing), "who": scheduler, "why": why, "path": f"/desk/drafts/{writing.id}"}
    await _owe(tx, settings, NoticeKind.NOT_SENT, emails, detail)


async def tell_unscheduled(
    tx: db.Connection, settings: Settings, before: Writing, *, by: Person, how: str, reason: str = ""
) -> None:
    """Owe a mail to whoever scheduled a draft that somebody else takes off the schedule; nothing for what is on none.

    `before` is the draft as it was, `how` one of changed, cancelled, discarded, returned and rejected.
    """
    scheduler = before.scheduled_by
    if scheduler is None or scheduler.id == by.id or scheduler.ended_at is not None:
        return
    path = "/desk/drafts" if how == "discarded" else f"/desk/drafts/{before.id}"
    detail = {**_about(before), "who": by.name, "how": how, "reason": reason, "path": path}
    await _owe(tx, settings, NoticeKind.UNSCHEDULED, [scheduler.email], detail)


def _about(writing: Writing) -> dict[str, str]:
    """What such a mail says of a draft that is, or was, scheduled. `local`: by each reader's own clock."""
    return {
        "headline": writing.text.headline,
        "story": writing.story.headline,
        "at": "" if writing.send_at is None else writing.send_at.astimezone(UTC).isoformat(),
        "local": "" if writing.send_local is None else writing.send_local.isoformat(),
    }


async def _leads(tx: db.Connection) -> list[str]:
    return [row["email"] for row in await tx.all("list_leads")]


async def _owe(
    tx: db.Connection, settings: Settings, kind: NoticeKind, emails: Iterable[str], detail: dict[str, str]
) -> None:
    """One mail for each address. One that is none must not keep a draft from being handed back, again and again."""
    for email in dict.fromkeys(emails):
        try:
            address = parse_address(email)
        except Invalid as error:
            log.error("somebody of the desk cannot be told by mail", kind=str(kind), reason=error.message)
            continue
        await tx.execute(
            "owe_desk_mail",
            kind=str(kind),
            email=address.email,
            address_hash=address_hash(settings.secret_key, address),
            locale="en",
            timezone=settings.newsroom.timezone,
            seconds=MAIL_LIFE,
            detail=json.dumps(detail, ensure_ascii=False),
        )
