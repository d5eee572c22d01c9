"""The mail of a draft as a document for the frame on the card: sandboxed, without scripts, light or dark as asked."""

from __future__ import annotations

import re

from markupsafe import Markup

from dispatcher.web.inbox import mail_policy
from dispatcher.web.readers import PRIVATE

HEADERS = {**PRIVATE, "Content-Security-Policy": mail_policy(images=True), "X-Frame-Options": "SAMEORIGIN"}

#: What a mail program asks before it shows a mail dark, and what the mail says that it can do.
_DARK = re.compile(r"@media\s*\(prefers-color-scheme:\s*dark\)")
_SCHEMES = re.compile(r"(color-scheme(?:s)?(?::\s*|\"\s+content=\"))light dark")
_HEAD = re.compile(r"<head\b[^>]*>", re.IGNORECASE)


def mail(html: str, is_dark: bool) -> str:
    """The HTML of a mail, as a mail program shows it that is light or dark, whatever the desk itself is now."""
    html = _DARK.sub("@media all" if is_dark else "@media not all", html)
    html = _SCHEMES.sub(rf"\g<1>{'dark' if is_dark else 'light'}", html)
    return _HEAD.sub(lambda found: f'{found.group()}<base target="_blank">', html, count=1)


def text(plain: str) -> str:
    """The plain text of a mail."""
    return _page(Markup('<pre dir="auto">{}</pre>').format(plain))


def reason(words: str) -> str:
    """Why there is no mail."""
    return _page(Markup("<p>{}</p>").format(f"This text cannot be made into a mail: {words}."))


def _page(content: Markup) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Preview</title><style>'
        "body{margin:16px;font:15px/1.5 system-ui,sans-serif;background:#fff;color:#191815}"
        "pre{font:13px/1.5 ui-monospace,monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
        f"</style></head><body>{content}</body></html>"
    )
