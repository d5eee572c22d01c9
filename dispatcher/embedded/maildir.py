"""The catcher's mails on disk: a Maildir, and beside it an index with one line per mail.

`index.tsv`: file name, Unix time in seconds, envelope sender, recipients (one space between them), decoded subject,
size in bytes; separated by tabs, oldest first. A space inside an address is written as `%20`.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from functools import lru_cache
from pathlib import Path

INDEX = "index.tsv"
MAX_SUBJECT = 300
NAME = re.compile(r"[0-9]{10}\.M[0-9]{6}P[0-9]{1,10}Q[0-9]{8}")
_SUBJECT = re.compile(rb"^subject:[ \t]*((?:.*(?:\r?\n[ \t].*)*))", re.IGNORECASE | re.MULTILINE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class InboxEntry:
    """One mail as the index knows it."""

    name: str  #: the name of its file, and how it is asked for
    received: float  #: Unix time in seconds
    sender: str  #: of the envelope; empty for a bounce
    recipients: tuple[str, ...]  #: of the envelope
    subject: str  #: decoded, on one line
    size: int  #: bytes

    def line(self) -> bytes:
        """This entry as a line of the index."""
        people = " ".join(_word(each) for each in self.recipients)
        fields = (self.name, f"{self.received:.6f}", _word(self.sender), people, self.subject, str(self.size))
        return ("\t".join(fields) + "\n").encode("utf-8", "replace")

    @classmethod
    def parse(cls, line: str) -> InboxEntry:
        """Read a line of the index. Raises ValueError if it is not one."""
        name, received, sender, recipients, subject, size = line.split("\t")
        if not NAME.fullmatch(name):
            raise ValueError(f"not the name of a mail: {name!r}")
        people = tuple(each.replace("%20", " ") for each in recipients.split(" ") if each)
        return cls(name, float(received), sender.replace("%20", " "), people, subject, int(size))


class Maildir:
    """Where mails are put: whole files only, each under a new name that sorts after all names before."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for folder in ("tmp", "new", "cur"):
            (directory / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._tmp = os.open(directory / "tmp", os.O_RDONLY | os.O_DIRECTORY)
        self._new = os.open(directory / "new", os.O_RDONLY | os.O_DIRECTORY)
        self._index = os.open(directory.parent / INDEX, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._pid = os.getpid()
        self._count = 0
        self._last = 0
        self._heal()

    def close(self) -> None:
        """Close what was opened; nothing can be put after that."""
        for file in (self._tmp, self._new, self._index):
            os.close(file)

    def put(self, sender: str, recipients: Sequence[str], message: bytes) -> str:
        """Keep a mail, and return its name. Raises OSError if the disk does not take it; nothing is left then.

        It is not synced to the disk: a catcher loses mail only when the machine itself falls.
        """
        now = max(time.time_ns() // 1000, self._last)  # names keep their order even if the clock is set back
        self._last = now
        self._count += 1
        name = f"{now // 1_000_000:010d}.M{now % 1_000_000:06d}P{self._pid}Q{self._count:08d}"
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._tmp)
        try:
            try:
                rest = memoryview(message)
                while rest:
                    rest = rest[os.write(file, rest) :]
            finally:
                os.close(file)
            os.rename(name, name, src_dir_fd=self._tmp, dst_dir_fd=self._new)
        except OSError:
            os.unlink(name, dir_fd=self._tmp)
            raise
        self._note(InboxEntry(name, now / 1_000_000, sender, tuple(recipients), subject_of(message), len(message)))
        return name

    def _note(self, entry: InboxEntry) -> None:
        with locked(self._index):
            os.write(self._index, entry.line())

    def _heal(self) -> None:
        """Add to the index what a killed predecessor put in place and did not note down any more."""
        for torn in (self.directory / "tmp").iterdir():
            torn.unlink()
        with locked(self._index):
            size = os.fstat(self._index).st_size
            text = os.pread(self._index, size, 0) if size else b""
            whole = text.rfind(b"\n") + 1
            os.ftruncate(self._index, whole)  # a line that was torn is written anew below
        known = {line.split(b"\t", 1)[0].decode("ascii", "replace") for line in text[:whole].splitlines()}
        for name in sorted(path.name for path in (self.directory / "new").iterdir()):
            if name not in known and NAME.fullmatch(name):
                message = (self.directory / "new" / name).read_bytes()
                received = int(name[:10]) + int(name[12:18]) / 1_000_000
                self._note(InboxEntry(name, received, "", (), subject_of(message), len(message)))


@contextmanager
def locked(file: int) -> Iterator[None]:
    """Hold the index while it is changed, against a reader who empties it."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def subject_of(message: bytes) -> str:
    """The decoded subject of a mail, on one line of at most 300 characters; empty if there is none."""
    end = message.find(b"\r\n\r\n", 0, 262_144)
    found = _SUBJECT.search(message, 0, end if end >= 0 else min(len(message), 262_144))
    return _decoded(found.group(1)[:4096]) if found else ""


@lru_cache(maxsize=256)
def _decoded(raw: bytes) -> str:
    text = re.sub(rb"\r?\n(?=[ \t])", b"", raw).decode("utf-8", "replace")
    if "=?" in text:
        # Shown as it came if that fails: an unknown character set is worth seeing in an inbox for development.
        with suppress(HeaderParseError, LookupError, ValueError):
            text = str(make_header(decode_header(text)))
    return _CONTROL.sub(" ", text).strip()[:MAX_SUBJECT]


def _word(address: str) -> str:
    # Most addresses are plain; looking is cheaper than replacing.
    return address if address.isascii() and address.isprintable() and " " not in address else _escaped(address)


def _escaped(address: str) -> str:
    return _CONTROL.sub("?", address).replace(" ", "%20")
