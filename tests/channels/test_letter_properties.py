"""For any name, address, link and text, a spliced letter says what a message built the slow way says."""

from __future__ import annotations

import email
import html
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email import policy
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import parseaddr
from unicodedata import normalize

import mailparser
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.channels.email.letter import Letter, Marks, Values, compile_letter

DATE = datetime(2026, 3, 12, 22, 56, tzinfo=UTC)
SENDER = Address("The Karsholm Ledger", "alerts", "ledger.example")

_HOSTILE = st.sampled_from(
    [
        ".",
        "..",
        "=",
        "=20",
        "%s",
        "{{ 7 * 7 }}",
        "<script>",
        "&amp;",
        '"',
        "\\",
        "'",
        "--",
        "=?utf-8?q?x?=",
        "👩‍👩‍👧",
        "שלום",
        "\u202e",
    ]
)
_CHARACTERS = st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"))
LINE = st.lists(st.one_of(_HOSTILE, st.text(_CHARACTERS, max_size=30)), max_size=8).map(
    lambda found: "".join(found)[:200]
)
LONG_LINE = st.one_of(LINE, st.tuples(LINE, st.integers(1, 200)).map(lambda pair: (pair[0] * pair[1])[:3000]))
TEXT = st.lists(LONG_LINE, max_size=6).map("\n".join)
_ATOM = st.text(st.sampled_from("abcXYZ019!#$%&'*+-/=?^_`{|}~éłß水🙂"), min_size=1, max_size=30)
ADDRESS = st.tuples(_ATOM, _ATOM, st.sampled_from(["mail.example", "x.example", "b-c.d.example"])).map(
    lambda parts: f"{parts[0]}.{parts[1]}@{parts[2]}"
)
URL = st.tuples(
    st.sampled_from(["https://", "http://"]),
    st.text(st.sampled_from("abcXYZ019!#$%&'()*+,-./:;=?@[]_~"), min_size=1, max_size=880),
).map("".join)


@dataclass(frozen=True)
class Case:
    subject: str
    text: tuple[str, str, str, str]
    values: Values


CASES = st.builds(
    Case,
    subject=LINE.map(lambda line: f"x{line}"),
    text=st.tuples(TEXT, TEXT, TEXT, TEXT),
    values=st.builds(
        Values,
        address=ADDRESS,
        message_id=st.integers(0, 10**30).map(lambda number: f"<{number}@ledger.example>"),
        leave_url=URL,
        manage_url=URL,
        wish=LINE,
        name=LINE,
    ),
)


@settings(max_examples=100, deadline=None)
@given(CASES)
def test_a_spliced_letter_says_what_a_message_built_the_slow_way_says(case: Case) -> None:
    letter = compiled(case)
    expected = parsed(slow(case))

    for eight_bit in (True, False):
        if not eight_bit and not case.values.address.isascii():
            continue
        raw = letter.splice(case.values, eight_bit=eight_bit)
        check_wire(raw, eight_bit=eight_bit)
        found = parsed(unstuffed(raw))
        # The standard library reads raw UTF-8 in headers (RFC 6532) only from a str, and calls such a mailbox a defect.
        top = found if raw.isascii() else email.message_from_string(raw.decode(), policy=policy.SMTPUTF8)

        assert case.values.address.isascii() is not bool(defects(found))
        assert str(found["Subject"]) == " ".join(case.subject.split())
        assert top["To"].addresses[0].addr_spec == case.values.address
        assert display_name(raw) == " ".join(case.values.name.split())
        for name in ("From", "Message-ID", "Date", "List-Unsubscribe", "List-Unsubscribe-Post", "List-Id"):
            assert squeezed(str(found[name])) == squeezed(str(expected[name]))
        assert found.get_content_type() == "multipart/alternative"
        assert len(list(found.iter_parts())) == 2
        assert content(found, "plain") == content(expected, "plain")
        assert squeezed(content(found, "html")) == squeezed(content(expected, "html"))


@settings(max_examples=30, deadline=None)
@given(CASES)
def test_a_second_parser_reads_the_same(case: Case) -> None:
    letter = compiled(case)
    for eight_bit in (True, False):
        if not case.values.address.isascii():
            continue
        found = mailparser.parse_from_bytes(unstuffed(letter.splice(case.values, eight_bit=eight_bit)))

        assert not found.has_defects
        assert [address for _, address in found.to] == [case.values.address]
        assert len(found.text_plain) == len(found.text_html) == 1
        # This parser brings characters into their composed form.
        shown = normalize("NFC", content(parsed(slow(case)), "plain"))
        assert normalize("NFC", found.text_plain[0].replace("\r\n", "\n")) == shown


@settings(max_examples=30, deadline=None)
@given(CASES)
def test_a_stored_letter_is_the_same_letter(case: Case) -> None:
    letter = compiled(case)
    again = Letter.loads(letter.dumps())

    assert again == letter
    assert again.dumps() == compiled(case).dumps()
    assert again.splice(case.values, eight_bit=True) == letter.splice(case.values, eight_bit=True)


def written(parts: tuple[str, str, str, str], name: str, address: str, leave: str, manage: str, wish: str) -> str:
    """A text in which slots stand at the beginning and end of lines, before dots, in words, and far out on a line."""
    one, two, three, four = parts
    return f"{name}.\n{one}\n{address}\n{two} <{leave}> {wish}\n.{wish}\n{name} {three}\n\n {manage}.{four}\n"


def written_html(parts: tuple[str, str, str, str], name: str, address: str, leave: str, manage: str, wish: str) -> str:
    one, two, three, four = (html.escape(part) for part in parts)
    return (
        f'{name}<p title=\'{one}\'>{two}</p>\n.{address}<a class="x" href="{leave}">{wish}</a> {three} {name}\n'
        f'<a href="{manage}" style="color: red">{four}</a></p>\n'
    )


def compiled(case: Case) -> Letter:
    marks = Marks.fresh(repr(case))
    slots = (marks.name, marks.address, marks.leave_url, marks.manage_url, marks.wish)
    return compile_letter(
        subject=case.subject,
        text=written(case.text, *slots),
        html=written_html(case.text, *slots),
        marks=marks,
        mail_from=SENDER,
        date=DATE,
        headers=[("List-Id", "<karsholm-dam.stories.ledger.example>")],
    )


def slow(case: Case) -> bytes:
    values = case.values
    message = EmailMessage(policy.SMTPUTF8)
    message["Date"] = DATE
    message["From"] = SENDER
    message["To"] = Address(addr_spec="reader@mail.example")
    message["Message-ID"] = values.message_id
    message["List-Id"] = "<karsholm-dam.stories.ledger.example>"
    message["List-Unsubscribe"] = f"<{values.leave_url}>"
    message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    slots = (values.name, values.address, values.leave_url, values.manage_url, values.wish)
    message.set_content(written(case.text, *slots), cte="base64")
    escaped = [html.escape(value) for value in slots]
    message.add_alternative(written_html(case.text, *escaped), subtype="html", cte="base64")
    return message.as_bytes()


def parsed(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw, policy=policy.SMTPUTF8)
    assert isinstance(message, EmailMessage)
    return message


def display_name(raw: bytes) -> str:
    """The name in To. The newer parser of the standard library puts a space between two encoded words of a name,
    which RFC 2047 §6.2 forbids, so the older one is asked.
    """
    shown = str(email.message_from_string(raw.decode(), policy=policy.compat32)["To"])
    name, _ = parseaddr("".join(shown.split("\r\n")))
    return str(make_header(decode_header(name)))


def defects(message: EmailMessage) -> list[object]:
    found: list[object] = []
    for part in message.walk():
        found += part.defects
        found += [defect for value in part.values() for defect in getattr(value, "defects", ())]
    return found


def content(message: EmailMessage, subtype: str) -> str:
    part = message.get_body((subtype,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def squeezed(text: str) -> str:
    return re.sub(r"[ \t\r\n]+", " ", text).strip()


def check_wire(raw: bytes, *, eight_bit: bool) -> None:
    assert raw.endswith(b"\r\n")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert b"\n" not in raw.replace(b"\r\n", b"")
    head, _, body = raw.partition(b"\r\n\r\n")
    for line in raw.split(b"\r\n"):
        assert line != b"."
        assert not line.startswith(b".") or line.startswith(b"..")
        assert len(line) <= 998
    if not eight_bit:
        assert raw.isascii()
        assert all(len(line) <= 77 for line in body.split(b"\r\n")), "76, and one for a doubled dot"
        for line in head.split(b"\r\n"):
            # A link, an address or a Message-ID cannot be folded, but then it has the line for itself.
            assert (
                len(line) <= 78 or line.startswith((b" <", b"Message-ID: <")) or b" " not in line.removeprefix(b"To: ")
            )


def unstuffed(raw: bytes) -> bytes:
    return b"\r\n".join(line[1:] if line.startswith(b"..") else line for line in raw.split(b"\r\n"))
