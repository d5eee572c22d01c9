"""Letters: what is refused, what is escaped, and what the bytes look like."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from email import policy
from email.headerregistry import Address
from email.message import EmailMessage
from timeit import repeat

import pytest

from dispatcher.channels.email.letter import Letter, Marks, Values, compile_letter
from dispatcher.errors import Invalid

DATE = datetime(2026, 3, 12, 22, 56, tzinfo=UTC)
LEDGER = Address("The Ledger", "alerts", "ledger.example")
MARKS = Marks("slotforthetests")
ANA = Values(
    address="ana@mail.example",
    message_id="<1.abc@ledger.example>",
    leave_url="https://ledger.example/u/token",
    manage_url="https://ledger.example/manage/token",
    wish="every update",
    name="Ana Lindqvist",
)


def a_letter(
    text: str = f"To {MARKS.address}\n",
    html: str = f"<p>To {MARKS.address}</p>",
    subject: str = "News",
    one_click: bool = True,
    mail_from: Address = LEDGER,
    headers: tuple[tuple[str, str], ...] = (),
) -> Letter:
    return compile_letter(
        subject=subject,
        text=text,
        html=html,
        marks=MARKS,
        mail_from=mail_from,
        date=DATE,
        headers=headers,
        one_click=one_click,
    )


def read(raw: bytes) -> EmailMessage:
    message = email.message_from_bytes(raw.replace(b"\r\n..", b"\r\n."), policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def body(raw: bytes, subtype: str) -> str:
    part = read(raw).get_body((subtype,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "Ana\r\nBcc: eve@mail.example"),
        ("name", "Ana\nBcc: eve@mail.example"),
        ("name", "Ana\x00"),
        ("name", "Ana\u2028"),
        ("name", "Ana\ud800"),
        ("name", "x" * 201),
        ("address", "ana@mail.example\r\nRCPT TO:<eve@mail.example>"),
        ("address", "ana@mail.example>, <eve@mail.example"),
        ("address", "ana@mail.example,eve@mail.example"),
        ("address", "ana mail.example"),
        ("address", "ana@mail@example"),
        ("address", ".ana@mail.example"),
        ("address", ""),
        ("address", "x" * 250 + "@mail.example"),
        ("address", "ł" * 130 + "@mail.example"),
        ("message_id", "1@ledger.example"),
        ("message_id", "<1@ledger.example>\r\nX: y"),
        ("leave_url", "javascript:alert(1)"),
        ("leave_url", "https://ledger.example/>, <mailto:eve@mail.example"),
        ("leave_url", "https://ledger.example/ü"),
        ("leave_url", "https://ledger.example/\r\n x"),
        ("leave_url", ""),
        ("manage_url", "data:text/html,x"),
        ("manage_url", "https://" + "x" * 900),
        ("wish", "every\nupdate"),
    ],
)
@pytest.mark.parametrize("eight_bit", [True, False])
def test_a_value_that_could_break_out_of_its_place_is_refused(field: str, value: str, eight_bit: bool) -> None:
    with pytest.raises(Invalid) as refusal:
        a_letter().splice(ANA._replace(**{field: value}), eight_bit=eight_bit)

    assert refusal.value.field == field


@pytest.mark.parametrize("subject", ["One\r\nBcc: eve@mail.example", "One\nTwo", "One\x00", " ", "\x7f"])
def test_a_subject_that_could_end_its_header_is_refused(subject: str) -> None:
    with pytest.raises(Invalid):
        a_letter(subject=subject)


@pytest.mark.parametrize("value", ["x\r\nBcc: eve@mail.example", "é", "x" * 1200])
def test_a_header_that_could_not_travel_is_refused(value: str) -> None:
    with pytest.raises(Invalid):
        a_letter(headers=(("List-Id", value),))


def test_control_characters_in_a_body_are_refused() -> None:
    with pytest.raises(Invalid, match=r"U\+0000"):
        a_letter(text="a\x00b")


def test_two_slots_that_touch_are_refused() -> None:
    with pytest.raises(Invalid, match="touch"):
        a_letter(text=f"{MARKS.address}{MARKS.name}")


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\" onload='x'", "a & b", "</title>"])
@pytest.mark.parametrize("eight_bit", [True, False])
def test_a_name_is_escaped_in_html_and_left_alone_in_text(name: str, eight_bit: bool) -> None:
    letter = a_letter(text=f"Dear {MARKS.name},\n", html=f'<p title="{MARKS.name}">{MARKS.name}</p>')
    raw = letter.splice(ANA._replace(name=name), eight_bit=eight_bit)

    assert f"Dear {name}," in body(raw, "plain")
    assert name not in body(raw, "html")
    assert read(raw)["To"].addresses[0].display_name == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("Ana Lindqvist", b'To: "Ana Lindqvist" <ana@mail.example>\r\n'),
        ("", b"To: ana@mail.example\r\n"),
        ("Dr. O'Neill, Jr.", b'To: "Dr. O\'Neill, Jr." <ana@mail.example>\r\n'),
        ('Ana "A" \\ L', b'To: "Ana \\"A\\" \\\\ L" <ana@mail.example>\r\n'),
        ("Łucja", b"To: =?utf-8?b?xYF1Y2ph?= <ana@mail.example>\r\n"),
        ("=?utf-8?q?Eve?=", b"To: =?utf-8?b?PT91dGYtOD9xP0V2ZT89?= <ana@mail.example>\r\n"),
    ],
)
def test_a_name_stands_in_to_as_its_characters_need_it(name: str, shown: bytes) -> None:
    raw = a_letter().splice(ANA._replace(name=name), eight_bit=True)

    assert shown in raw


def test_an_address_outside_ascii_travels_as_utf8_or_not_at_all() -> None:
    reader = ANA._replace(address="łucja@mail.example")

    assert "<łucja@mail.example>".encode() in a_letter().splice(reader, eight_bit=True)
    with pytest.raises(Invalid, match="SMTPUTF8"):
        a_letter().splice(reader, eight_bit=False)


def test_a_dot_that_a_value_brings_to_the_beginning_of_a_line_is_doubled() -> None:
    letter = a_letter(text=f"First\n{MARKS.wish}\n{MARKS.name}.\n", html=f"{MARKS.wish} <p>")
    for eight_bit in (True, False):
        raw = letter.splice(ANA._replace(wish=".", name=""), eight_bit=eight_bit)

        assert b"\r\n.\r\n" not in raw
        assert b"\n..\r\n..\r\n" in raw or not eight_bit
        assert body(raw, "plain") == "First\n.\n.\n"


def test_a_value_that_is_too_long_for_an_8_bit_line_is_sent_quoted() -> None:
    letter = a_letter(text=f"{'x ' * 400}{MARKS.leave_url}\n")
    long = f"https://ledger.example/{'y' * 400}"

    assert b"Transfer-Encoding: 8bit" in letter.splice(ANA, eight_bit=True)
    raw = letter.splice(ANA._replace(leave_url=long), eight_bit=True)
    assert b"Transfer-Encoding: quoted-printable" in raw
    assert body(raw, "plain") == f"{'x ' * 400}{long}\n"
    assert max(map(len, raw.split(b"\r\n"))) <= 998


def test_a_text_whose_lines_are_too_long_is_quoted_in_both_forms() -> None:
    raw = a_letter(text="ü" * 3000).splice(ANA, eight_bit=True)

    assert read(raw)["Content-Transfer-Encoding"] == "8bit"
    assert body(raw, "plain") == "ü" * 3000 + "\n"
    assert max(map(len, raw.split(b"\r\n"))) <= 998


def test_html_is_wrapped_where_nobody_sees_it() -> None:
    code = "<pre>" + "a  b " * 100 + "\n  c</pre>"
    link = '<a title="two  spaces > here" href="https://x.example/">x</a>' * 100
    shown = body(a_letter(html=f"{code}{link}").splice(ANA, eight_bit=True), "html")

    assert code in shown
    assert shown.replace("\n", " ").count('title="two  spaces > here"') == 100
    assert shown.replace("<a\n", "<a ").rstrip() == f"{code}{link}"


def test_a_long_subject_is_folded_and_read_back_whole() -> None:
    for subject in ("word " * 30 + "end", "Łódź " * 30 + "end", "x" * 200, "日本" * 80):
        raw = a_letter(subject=subject).splice(ANA, eight_bit=False)

        assert read(raw)["Subject"] == subject
        assert all(len(line) <= 78 for line in raw.split(b"\r\n"))


def test_the_headers_of_a_list_mail_are_there() -> None:
    message = read(a_letter().splice(ANA, eight_bit=True))

    assert message["List-Unsubscribe"] == "<https://ledger.example/u/token>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Date"] == "Thu, 12 Mar 2026 22:56:00 +0000"
    assert message["Message-ID"] == "<1.abc@ledger.example>"
    assert message["MIME-Version"] == "1.0"


def test_a_letter_without_one_click_needs_no_link() -> None:
    message = read(a_letter(one_click=False).splice(ANA._replace(leave_url=""), eight_bit=True))

    assert message["List-Unsubscribe"] is None


def test_the_senders_domain_is_written_in_ascii() -> None:
    raw = a_letter(mail_from=Address("Łódź Ledger", "alerts", "łódź.example")).splice(ANA, eight_bit=False)

    domain = read(raw)["From"].addresses[0].domain
    assert domain.startswith("xn--")
    assert domain.encode().decode("idna") == "łódź.example"
    assert read(raw)["From"].addresses[0].display_name == "Łódź Ledger"
    with pytest.raises(Invalid, match="ASCII"):
        a_letter(mail_from=Address("Ledger", "ł", "ledger.example"))


def test_the_same_content_gives_the_same_bytes_whatever_the_marks() -> None:
    def made() -> bytes:
        marks = Marks.fresh("")
        letter = compile_letter(
            subject="News",
            text=f"{marks.name}: news\n",
            html=f"<p>{marks.name}</p>",
            marks=marks,
            mail_from=Address("", "alerts", "ledger.example"),
            date=DATE,
        )
        return letter.dumps()

    assert made() == made()


def test_marks_are_never_in_the_content() -> None:
    content = Marks.fresh("").nonce

    assert Marks.fresh(content).nonce not in content


@pytest.mark.parametrize("change", [b"", b"x", b"dispatcher-letter/0\n{}\n", b"dispatcher-letter/1\n{}\n", None])
def test_what_is_no_stored_letter_is_refused(change: bytes | None) -> None:
    stored = a_letter().dumps()
    for data in (
        [change] if change is not None else [stored[:-1], stored + b"x", stored.replace(b"HEADER", b"NOWHERE", 1)]
    ):
        if data == stored:
            continue
        with pytest.raises(Invalid, match="letter"):
            Letter.loads(data)


def test_a_stored_letter_holds_no_reader() -> None:
    letter = a_letter()
    letter.splice(ANA, eight_bit=True)

    assert b"ana@mail.example" not in letter.dumps()


def test_splicing_a_letter_of_20_kb_takes_microseconds() -> None:
    text = "".join(f"This is line {number} of an ordinary text about the news.\n" for number in range(180))
    html = "".join(f"<p>This is line {number} of an ordinary text.</p>\n" for number in range(220))
    foot = f"{MARKS.address} {MARKS.leave_url} {MARKS.manage_url} {MARKS.wish}\n"
    letter = a_letter(text + foot, html + foot)
    best = min(repeat(lambda: letter.splice(ANA, eight_bit=True), number=500, repeat=8)) / 500

    assert 18_000 < len(letter.splice(ANA, eight_bit=True)) < 25_000
    print(f"{best * 1e6:.1f} µs a letter")
    assert best < 40e-6, "about 4 µs on a quiet machine"
