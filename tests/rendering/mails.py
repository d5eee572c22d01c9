"""A letter as the reader's mail program takes it apart."""

from __future__ import annotations

import email
from email import policy
from email.message import EmailMessage
from html.parser import HTMLParser

from dispatcher.channels.email.letter import Letter, Values

ANA = Values(
    address="ana@mail.example",
    message_id="<1.abc@ledger.example>",
    leave_url="https://ledger.example/u/leave-token",
    manage_url="https://ledger.example/manage/manage-token",
    wish="every update, since 8 March 2026",
    name="Ana Lindqvist",
)


class Mail:
    """One reader's mail, unpacked."""

    def __init__(self, letter: Letter, values: Values = ANA, *, eight_bit: bool = True) -> None:
        raw = letter.splice(values, eight_bit=eight_bit)
        self.raw = b"\r\n".join(line.removeprefix(b".") if line[:2] == b".." else line for line in raw.split(b"\r\n"))
        message = email.message_from_bytes(self.raw, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.message = message
        self.text, self.html = (self._part(subtype) for subtype in ("plain", "html"))

    def _part(self, subtype: str) -> str:
        part = self.message.get_body((subtype,))
        assert part is not None
        return str(part.get_content()).replace("\r\n", "\n")

    @property
    def subject(self) -> str:
        return str(self.message["Subject"])

    @property
    def shown(self) -> str:
        """The words of the HTML part."""
        return words_of(self.html)

    @property
    def read(self) -> str:
        """The words of the text part on one line."""
        return " ".join(self.text.split())


def words_of(source: str) -> str:
    class Words(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []
            self.hidden = False

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.hidden = tag in ("style", "title")

        def handle_endtag(self, tag: str) -> None:
            self.hidden = False

        def handle_data(self, data: str) -> None:
            if not self.hidden:
                self.found.append(data)

    words = Words()
    words.feed(source)
    return " ".join("".join(words.found).split())
