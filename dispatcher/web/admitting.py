"""Who is heard: not machines, not whoever asks too often, and in a flood only whoever has worked for it."""

from __future__ import annotations

from starlette.requests import Request

from dispatcher.limiting import client_address
from dispatcher.web.forms import Form, Sent
from dispatcher.web.front import Front


async def hindrance(here: Front, request: Request, sent: Sent, purpose: str) -> Form | None:
    """What stands between a form and being heard, as the form to show again; None if nothing does.

    Counts the form against whoever sent it, and for the brake unless that is too many: one client alone cannot make all
    others work. `purpose` is what a puzzle is good for: one form.
    """
    if not await here.limiter.allow_client(sender(here, request)):
        return sent.again(problem="too-many")
    if puzzle := await work(here, purpose, sent.get("puzzle"), sent.get("answer")):
        return sent.again(puzzle=puzzle)
    return None


async def work(here: Front, purpose: str, puzzle: str, answer: str) -> str:
    """Count an ask for the brake; the puzzle that has to be solved before it is heard, empty if none has.

    `puzzle` and `answer` are what it brought with it.
    """
    await here.limiter.count_ask()
    if not await here.limiter.braked() or await here.puzzle.check(purpose, puzzle, answer):
        return ""
    return here.puzzle.make(purpose)


def sender(here: Front, request: Request) -> str:
    """The address of whoever sent this; a trusted proxy says whom it speaks for."""
    peer = request.client.host if request.client else ""
    # Some proxies add a line of their own behind the client's: all lines are one list (RFC 9110 §5.3).
    forwarded_for = ", ".join(request.headers.getlist("x-forwarded-for")) or None
    return client_address(peer, forwarded_for, here.settings.trusted_proxies)
