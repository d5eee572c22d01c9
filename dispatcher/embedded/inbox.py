"""Reading the caught mails: for the page /inbox, for `demo`, and for tests."""

from __future__ import annotations

import os
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from dispatcher.embedded.maildir import INDEX, NAME, InboxEntry, locked
from dispatcher.errors import NotFound

__all__ = ["Inbox", "InboxEntry", "InboxMail", "InboxPage"]


@dataclass(frozen=True, slots=True)
class InboxPage:
    """A page of the list, newest first."""

    total: int  #: how many mails there are, or match the query
    entries: list[InboxEntry]


@dataclass(frozen=True, slots=True)
class InboxMail:
    """One mail, opened. Everything in it comes from outside: escape it, and show `html` in a sandbox only."""

    entry: InboxEntry
    raw: bytes  #: as it came over the wire, without the dots of the transport
    headers: list[tuple[str, str]]  #: in order, decoded, each on one line
    text: str  #: the text/plain part, or ""
    html: str  #: the text/html part, or ""


class Inbox:
    """The mails in a Maildir that the catcher fills. Works with the catcher running or not."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def count(self) -> int:
        """How many mails there are."""
        return self._read().count(b"\n")

    def page(self, offset: int = 0, limit: int = 50, query: str = "") -> InboxPage:
        """The mails from `offset` (0 is the newest) on, at most `limit` of them.

        With `query` only those whose subject or one of whose recipients contains it, in capital or small letters.
        """
        offset, limit, wanted = max(offset, 0), max(limit, 0), query.strip().casefold()
        lines = self._read().split(b"\n")[:-1]
        if wanted:
            found = [entry for entry in self._entries(lines) if _matches(entry, wanted)]
            return InboxPage(len(found), found[::-1][offset : offset + limit])
        last = len(lines) - offset
        return InboxPage(len(lines), self._entries(lines[max(last - limit, 0) : max(last, 0)])[::-1])

    def entry(self, name: str) -> InboxMail:
        """One mail by its name. Raises `NotFound` for any other name, such as a path that leads elsewhere."""
        missing = NotFound("There is no such mail in the inbox.")
        if not NAME.fullmatch(name):
            raise missing
        try:
            file = os.open(self.directory / "new" / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise missing from error
        with os.fdopen(file, "rb") as opened:
            raw = opened.read()
        start = name.encode() + b"\t"
        line = next((each for each in self._read().split(b"\n") if each.startswith(start)), None)
        if line is None:
            raise missing
        message = message_from_bytes(raw, policy=policy.default)
        return InboxMail(
            entry=InboxEntry.parse(line.decode("utf-8", "replace")),
            raw=raw,
            headers=[(key, _header(message, key, value)) for key, value in message.raw_items()],
            text=_part(message, "plain"),
            html=_part(message, "html"),
        )

    def clear(self) -> int:
        """Remove all mails, and say how many. One that arrives meanwhile stays."""
        path = self.directory.parent / INDEX
        try:
            index = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            with locked(index):
                lines = self._read().split(b"\n")[:-1]
                os.ftruncate(index, 0)
        finally:
            os.close(index)
        entries = self._entries(lines)
        for entry in entries:
            (self.directory / "new" / entry.name).unlink(missing_ok=True)
        return len(entries)

    def _read(self) -> bytes:
        try:
            return (self.directory.parent / INDEX).read_bytes()
        except FileNotFoundError:
            return b""

    @staticmethod
    def _entries(lines: list[bytes]) -> list[InboxEntry]:
        found = []
        for line in lines:
            try:
                found.append(InboxEntry.parse(line.decode("utf-8", "replace")))
            except ValueError:
                continue  # a line that a crash tore in two; its mail is noted again at the next start
        return found


def _matches(entry: InboxEntry, wanted: str) -> bool:
    return wanted in entry.subject.casefold() or any(wanted in each.casefold() for each in entry.recipients)


def _header(message: EmailMessage, key: str, raw: str) -> str:
    """A header's decoded value; as it came if it cannot be decoded, as hostile mail tends to be."""
    try:
        _, value = message.policy.header_source_parse([f"{key}: {raw}\n"])
        text = str(message.policy.header_fetch_parse(key, value))
    except (ValueError, LookupError, IndexError, AttributeError, TypeError):
        text = str(raw)
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _part(message: EmailMessage, kind: str) -> str:
    part = message.get_body(preferencelist=(kind,))
    if part is None:
        return ""
    try:
        content = part.get_content()
    except (KeyError, LookupError, ValueError):
        payload = part.get_payload(decode=True)
        content = payload.decode("utf-8", "replace") if isinstance(payload, bytes) else ""
    return content if isinstance(content, str) else ""
