"""Mails as the embedded catcher keeps them."""

from __future__ import annotations

from pathlib import Path

from dispatcher.embedded.maildir import Maildir


def caught(directory: Path, *bodies: str, subject: str = "Update", recipient: str = "reader@mail.example") -> Path:
    """A catcher's Maildir with one HTML mail for each body, the last one newest."""
    maildir = Maildir(directory / "mail")
    for number, body in enumerate(bodies, 1):
        put(maildir, f"{subject} {number}", body, recipient)
    maildir.close()
    return directory / "mail"


def put(maildir: Maildir, subject: str, body: str, recipient: str = "reader@mail.example") -> None:
    """One more mail, with a plain text part that says `plain` before the body."""
    lines = (
        "From: The Courier <alerts@courier.example>",
        f"To: {recipient}",
        f"Subject: {subject}",
        "List-Unsubscribe: <http://127.0.0.1/u/x>",
        "List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        "MIME-Version: 1.0",
        "Content-Type: multipart/alternative; boundary=b",
        "",
        "--b",
        "Content-Type: text/plain; charset=utf-8",
        "",
        f"plain {body}",
        "--b",
        "Content-Type: text/html; charset=utf-8",
        "",
        body,
        "--b--",
        "",
    )
    maildir.put("bounces@courier.example", [recipient], "\r\n".join(lines).encode())
