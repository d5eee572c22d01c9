"""Reading the inbox: pages, search, one mail; and mails and names that mean harm."""

from __future__ import annotations

import time
from email.message import EmailMessage
from pathlib import Path

import pytest

from dispatcher.embedded.inbox import Inbox
from dispatcher.embedded.maildir import Maildir
from dispatcher.errors import NotFound


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    return Maildir(tmp_path / "Maildir")


@pytest.fixture
def inbox(maildir: Maildir) -> Inbox:
    return Inbox(maildir.directory)


def put(maildir: Maildir, number: int, recipient: str = "reader@example.org") -> str:
    return maildir.put("desk@example.org", [recipient], f"Subject: Update {number}\r\n\r\n{number}\r\n".encode())


def test_the_newest_mail_comes_first_and_pages_follow_each_other(maildir: Maildir, inbox: Inbox) -> None:
    for number in range(7):
        put(maildir, number)

    pages = [inbox.page(offset, 3) for offset in (0, 3, 6, 9)]

    assert [[entry.subject[-1] for entry in page.entries] for page in pages] == [list("654"), list("321"), ["0"], []]
    assert {page.total for page in pages} == {7} == {inbox.count()}
    assert inbox.page(-5, -1).entries == []


def test_an_inbox_that_never_got_a_mail_is_empty(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "nowhere" / "Maildir")

    assert (inbox.page().total, inbox.page().entries, inbox.count(), inbox.clear()) == (0, [], 0, 0)
    with pytest.raises(NotFound):
        inbox.entry("1795368184.M581924P1Q00000001")


def test_a_search_looks_at_recipients_and_subjects_in_any_case(maildir: Maildir, inbox: Inbox) -> None:
    put(maildir, 1, "Anna@Example.org")
    put(maildir, 2, "ÖZIL@example.org")
    put(maildir, 3, "update-2@example.org")

    def found(query: str) -> list[str]:
        return [entry.recipients[0] for entry in inbox.page(query=query).entries]

    assert found("anna@example") == ["Anna@Example.org"]
    assert found("özil") == ["ÖZIL@example.org"]
    assert found("UPDATE 2") == ["ÖZIL@example.org"]
    assert found("update-2") == ["update-2@example.org"]
    assert found("desk@example.org") == []
    assert found(".*") == []
    assert inbox.page(1, 1, "update").total == 3
    assert [entry.subject for entry in inbox.page(1, 1, "update").entries] == ["Update 2"]


def test_a_mail_is_opened_with_its_parts_and_headers(maildir: Maildir, inbox: Inbox) -> None:
    message = EmailMessage()
    message["From"] = "Zeitung <desk@example.org>"
    message["Subject"] = "Brücke gesperrt"
    message.set_content("Nur Text: ä\n")
    message.add_alternative("<p>HTML: ä</p>\n", subtype="html")
    raw = message.as_bytes().replace(b"\n", b"\r\n")
    name = maildir.put("desk@example.org", ["a@example.org", "b@example.org"], raw)

    mail = inbox.entry(name)

    assert mail.raw == raw
    assert mail.entry.recipients == ("a@example.org", "b@example.org")
    assert ("Subject", "Brücke gesperrt") in mail.headers
    assert (mail.text.strip(), mail.html.strip()) == ("Nur Text: ä", "<p>HTML: ä</p>")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no headers at all",
        b"\x00\xff\xfe\r\n\r\n\x00",
        b"Subject: =?utf-8?b?////?= =?no-such-charset?q?=41?=\r\n\r\n",
        b"Subject:\r\n" + b" x\r\n" * 5000 + b"\r\n",
        b"Content-Type: text/plain; charset=no-such\r\nContent-Transfer-Encoding: base64\r\n\r\n!!!!",
        b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n' * 50,
        b"Content-Type: text/html; charset=utf-16\r\n\r\n\x00",
        b"From: <<>>@@\r\nDate: yesterday\r\nTo: a:b;c<\r\nMessage-ID: [\r\nContent-Type: /;=\r\n\r\n",
        b"Content-Disposition: attachment; filename*=x''%FF\r\nSubject: \xc3\x28\r\n\r\n",
    ],
)
def test_no_mail_is_too_broken_to_be_opened(maildir: Maildir, inbox: Inbox, raw: bytes) -> None:
    mail = inbox.entry(maildir.put("", ["reader@example.org"], raw))

    assert mail.raw == raw
    assert inbox.page().entries == [mail.entry]
    assert all("\n" not in value and "\r" not in value for _, value in mail.headers)
    (mail.text + mail.html + mail.entry.subject + repr(mail.headers)).encode()


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../index.tsv",
        "../../secret",
        "/etc/passwd",
        "new/{name}",
        "{name}/..",
        "{name}\n",
        "{name}\0",
        "{name}.bak",
        "x{name}",
        "１７９５３６８１８４.M581924P1Q00000001",
    ],
)
def test_a_name_never_leads_out_of_the_inbox(maildir: Maildir, inbox: Inbox, name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Subject: secret\n\n")
    real = put(maildir, 1)

    with pytest.raises(NotFound):
        inbox.entry(name.replace("{name}", real))


def test_a_link_in_the_inbox_is_not_followed(maildir: Maildir, inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Subject: secret\n\n")
    name = put(maildir, 1)
    (maildir.directory / "new" / name).unlink()
    (maildir.directory / "new" / name).symlink_to(tmp_path / "secret")

    with pytest.raises(NotFound):
        inbox.entry(name)


def test_an_index_that_names_other_files_removes_none_of_them(maildir: Maildir, inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    put(maildir, 1)
    with (tmp_path / "index.tsv").open("a") as index:
        index.write("../../precious\t1\ta@b.c\td@e.f\tsubject\t1\nnonsense\n")

    assert inbox.clear() == 1
    assert (tmp_path / "precious").read_text() == "kept"
    assert list((maildir.directory / "new").iterdir()) == []


def test_mails_that_come_after_a_clear_are_listed(maildir: Maildir, inbox: Inbox) -> None:
    put(maildir, 1)
    inbox.clear()
    name = put(maildir, 2)

    assert [entry.name for entry in inbox.page().entries] == [name]


def test_a_page_of_twenty_thousand_mails_opens_none_of_them(tmp_path: Path) -> None:
    line = "1795368184.M{0:06d}P1Q00000001\t1795368184.5\ta@b.c\treader{0}@example.org\tUpdate\t1\n"
    (tmp_path / "index.tsv").write_text("".join(line.format(number) for number in range(20_000)))
    inbox = Inbox(tmp_path / "Maildir")
    before = time.process_time()

    page = inbox.page(19_990, 50)
    found = inbox.page(0, 50, "reader19999@")

    assert time.process_time() - before < 2.0
    assert (page.total, len(page.entries), found.total) == (20_000, 10, 1)
