"""The test inbox: what the embedded mail catcher caught. Mails are hostile, so each is shown in a box of its own."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from email.utils import parseaddr

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dispatcher.embedded.inbox import Inbox, InboxMail
from dispatcher.errors import NotFound
from dispatcher.web.front import front

PER_PAGE = 50
VIEWS = ("html", "text", "headers")
#: A mail may hold megabytes of text; a page shows this much of it.
MAX_SHOWN = 500_000

_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)


def mail_policy(*, images: bool) -> str:
    """The policy of a mail's own document: its styles, no script, no form, and pictures only if they are asked for."""
    return "; ".join(
        (
            "sandbox allow-popups allow-popups-to-escape-sandbox",
            "default-src 'none'",
            "style-src 'unsafe-inline'",
            f"img-src data:{' https: http:' if images else ''}",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'self'",
        )
    )


async def listing(request: Request) -> Response:
    """`/inbox`: the mails, newest first; `?q=` searches subjects and recipients, `?page=` turns pages."""
    here = front(request)
    query = request.query_params.get("q", "")[:200]
    number = request.query_params.get("page", "1")
    page = min(max(int(number), 1), 100_000) if re.fullmatch(r"[0-9]{1,6}", number) else 1
    found = await asyncio.to_thread(_inbox(request).page, (page - 1) * PER_PAGE, PER_PAGE, query)
    return here.page(
        request,
        "inbox.html",
        language="en",
        query=query,
        page=page,
        pages=max(-(-found.total // PER_PAGE), 1),
        total=found.total,
        mails=[(entry, datetime.fromtimestamp(entry.received, UTC)) for entry in found.entries],
    )


async def one_mail(request: Request) -> Response:
    """`/inbox/{name}`: one mail as `?view=` html, text or headers."""
    here = front(request)
    mail = await _open(request)
    offered = [view for view in VIEWS if view != "html" or mail.html]
    view = request.query_params.get("view", "")
    headers = {name.lower(): value for name, value in reversed(mail.headers)}
    return here.page(
        request,
        "mail.html",
        language="en",
        mail=mail,
        view=view if view in offered else offered[0],
        views=offered,
        images=request.query_params.get("images") == "1",
        received=datetime.fromtimestamp(mail.entry.received, UTC),
        sender=parseaddr(headers.get("from", "")) if "from" in headers else ("", mail.entry.sender),
        text=mail.text[:MAX_SHOWN],
        cut=len(mail.text) > MAX_SHOWN,
        has_unsubscribe="list-unsubscribe" in headers,
    )


async def mail_html(request: Request) -> Response:
    """`/inbox/{name}/html`: the HTML part as a document of its own, for the frame; pictures with `?images=1`."""
    mail = await _open(request)
    if not mail.html:
        raise NotFound("This mail has no HTML part.")
    images = request.query_params.get("images") == "1"
    headers = {"Content-Security-Policy": mail_policy(images=images)}
    return HTMLResponse(_links_open_elsewhere(mail.html), headers=headers)


async def mail_raw(request: Request) -> Response:
    """`/inbox/{name}/raw`: the mail as it came over the wire, to be saved."""
    mail = await _open(request)
    return Response(
        mail.raw,
        media_type="message/rfc822",
        headers={"Content-Disposition": f'attachment; filename="{mail.entry.name}.eml"'},
    )


def _inbox(request: Request) -> Inbox:
    inbox = front(request).inbox
    if inbox is None:
        raise NotFound("There is no test inbox here: mail goes to a real relay.")
    return inbox


async def _open(request: Request) -> InboxMail:
    return await asyncio.to_thread(_inbox(request).entry, request.path_params["name"])


def _links_open_elsewhere(html: str) -> str:
    """Let links open in a new tab: our own pages refuse to be shown inside the frame."""
    base = '<base target="_blank">'
    changed, count = _HEAD.subn(lambda found: found.group() + base, html, count=1)
    return changed if count else base + html
