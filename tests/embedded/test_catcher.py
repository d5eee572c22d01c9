"""The mail catcher, spoken to over real sockets."""

from __future__ import annotations

import re
import signal
import smtplib
import socket
import subprocess
import sys
import threading
from email.message import EmailMessage
from pathlib import Path

import aiosmtplib
import pytest

from dispatcher.embedded.catcher import MAX_LINE, MAX_RECIPIENTS, MAX_SIZE
from tests.embedded.conftest import RunningCatcher, running_catcher
from tests.support.smtp import Dialogue

MESSAGE = b"From: Desk <desk@example.org>\r\nSubject: The bridge is closed\r\n\r\nSince nine.\r\n"
ENVELOPE = b"MAIL FROM:<desk@example.org>\r\nRCPT TO:<reader@example.org>\r\nDATA\r\n"


def test_it_greets_and_offers_what_it_can(catcher: RunningCatcher) -> None:
    with Dialogue(catcher.port) as talk:
        assert talk.greeting.startswith("220 ")
        assert [line[4:] for line in talk.offers[1:]] == [
            "PIPELINING",
            f"SIZE {MAX_SIZE}",
            "8BITMIME",
            "SMTPUTF8",
            "ENHANCEDSTATUSCODES",
        ]


def test_a_mail_is_in_place_when_the_answer_comes(catcher: RunningCatcher) -> None:
    with Dialogue(catcher.port, hello="HELO old.example") as talk:
        assert talk.offers == ["250 catcher.localhost"]
        assert talk.ask("MAIL FROM:<desk@example.org>") == "250 2.1.0 Sender accepted"
        assert talk.ask("RCPT TO:<one@example.org>") == "250 2.1.5 Recipient accepted"
        assert talk.ask("RCPT TO:<@relay.example:two@example.org>") == "250 2.1.5 Recipient accepted"
        assert talk.ask("DATA").startswith("354 ")
        talk.send(MESSAGE + b".\r\n")
        answer = talk.reply()

        (entry,) = catcher.inbox.page().entries
        assert answer == f"250 2.0.0 Kept as {entry.name}"
        assert (entry.sender, entry.recipients) == ("desk@example.org", ("one@example.org", "two@example.org"))
        assert (entry.subject, entry.size) == ("The bridge is closed", len(MESSAGE))
        assert catcher.inbox.entry(entry.name).raw == MESSAGE
        assert talk.ask("QUIT").startswith("221 2.0.0")
        assert talk.reply() == ""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("NOOP", "250 2.0.0"),
        ("RSET", "250 2.0.0"),
        ("VRFY reader", "252 2.5.0"),
        ("HELP", "214 2.0.0"),
        ("AUTH PLAIN AAAA", "502 5.5.1"),
        ("STARTTLS", "502 5.5.1"),
        ("SING", "500 5.5.2"),
        ("", "500 5.5.2"),
        ("EHLO", "501 5.5.4"),
        ("DATA", "503 5.5.1"),
        ("RCPT TO:<reader@example.org>", "503 5.5.1"),
        ("MAIL TO:<desk@example.org>", "501 5.5.4"),
        ("MAIL FROM:desk@example.org", "501 5.5.4"),
        ("MAIL FROM:<desk>", "501 5.1.3"),
        ("MAIL FROM:<a@b@c>", "501 5.1.3"),
        ("MAIL FROM:<>", "250 2.1.0"),
        ('MAIL FROM:<"two words"@example.org>', "250 2.1.0"),
        ("MAIL FROM:<desk@[127.0.0.1]>", "250 2.1.0"),
        (f"MAIL FROM:<{'d' * 250}@x.example>", "501 5.1.3"),
        ("MAIL FROM:<desk@example.org> SIZE=100 BODY=8BITMIME", "250 2.1.0"),
        (f"MAIL FROM:<desk@example.org> SIZE={MAX_SIZE + 1}", "552 5.3.4"),
        ("MAIL FROM:<desk@example.org> SIZE=many", "555 5.5.4"),
        ("MAIL FROM:<desk@example.org> RET=HDRS", "555 5.5.4"),
    ],
)
def test_every_command_gets_its_code(catcher: RunningCatcher, command: str, code: str) -> None:
    with Dialogue(catcher.port) as talk:
        assert talk.ask(command).startswith(code)
        assert talk.ask("NOOP").startswith("250")


@pytest.mark.parametrize(
    ("recipient", "code"),
    [("<>", "501 5.1.3"), ("<postmaster>", "250 2.1.5"), ("<reader@example.org> NOTIFY=NEVER", "555 5.5.4")],
)
def test_recipients_are_looked_at(catcher: RunningCatcher, recipient: str, code: str) -> None:
    with Dialogue(catcher.port) as talk:
        talk.ask("MAIL FROM:<desk@example.org>")
        assert talk.ask(f"RCPT TO:{recipient}").startswith(code)


def test_nobody_speaks_out_of_turn(catcher: RunningCatcher) -> None:
    with Dialogue(catcher.port, hello="") as talk:
        assert talk.ask("MAIL FROM:<desk@example.org>") == "503 5.5.1 Say EHLO first"
        talk.ask("EHLO test.example")
        talk.ask("MAIL FROM:<desk@example.org>")
        assert talk.ask("MAIL FROM:<desk@example.org>") == "503 5.5.1 One mail at a time"
        assert talk.ask("DATA") == "503 5.5.1 RCPT comes first"
        talk.ask("RCPT TO:<reader@example.org>")
        talk.ask("RSET")
        assert talk.ask("DATA") == "503 5.5.1 RCPT comes first"


def test_recipients_have_a_limit(catcher: RunningCatcher) -> None:
    with Dialogue(catcher.port) as talk:
        talk.ask("MAIL FROM:<desk@example.org>")
        talk.send(b"RCPT TO:<reader@example.org>\r\n" * (MAX_RECIPIENTS + 1))
        replies = [talk.reply() for _ in range(MAX_RECIPIENTS + 1)]

        assert set(replies[:-1]) == {"250 2.1.5 Recipient accepted"}
        assert replies[-1] == "452 4.5.3 Too many recipients"


def test_a_pipelined_session_is_answered_in_order_however_it_is_cut(catcher: RunningCatcher) -> None:
    session = ENVELOPE + MESSAGE + b".\r\n" + ENVELOPE + b".\r\n" + b"RSET\r\n" + ENVELOPE + MESSAGE + b".\r\nQUIT\r\n"
    for size in (1, 7, 1 << 20):
        catcher.inbox.clear()
        with Dialogue(catcher.port) as talk:
            for start in range(0, len(session), size):
                talk.send(session[start : start + size])
            codes = [talk.reply()[:3] for _ in range(14)]

        assert codes == ["250", "250", "354", "250"] * 2 + ["250"] + ["250", "250", "354", "250", "221"]
        assert [entry.size for entry in catcher.inbox.page().entries] == [len(MESSAGE), 0, len(MESSAGE)]


def test_dots_at_the_start_of_lines_come_out_as_they_went_in(catcher: RunningCatcher) -> None:
    sent = b"..at once\r\n\r\n..\r\n...\r\n. not stuffed\r\nin . the\r\n..end\r\n"
    with Dialogue(catcher.port) as talk:
        assert talk.mail(sent).startswith("250")
    (entry,) = catcher.inbox.page().entries

    kept = catcher.inbox.entry(entry.name).raw
    assert kept == b".at once\r\n\r\n.\r\n..\r\n not stuffed\r\nin . the\r\n.end\r\n"


@pytest.mark.parametrize(
    "false_end", [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r\n.\r", b"\r\n\x00.\r\n", b"\n.\r"]
)
def test_nothing_but_a_dot_between_two_crlf_ends_a_mail(catcher: RunningCatcher, false_end: bytes) -> None:
    smuggled = MESSAGE + false_end + b"MAIL FROM:<boss@example.org>\r\nRCPT TO:<reader@example.org>\r\nDATA\r\nPay.\r\n"
    with Dialogue(catcher.port) as talk:
        assert talk.mail(smuggled).startswith("250")
        assert talk.ask("NOOP").startswith("250")

    assert [entry.sender for entry in catcher.inbox.page().entries] == ["desk@example.org"]


@pytest.mark.parametrize("line", [b"NOOP\n", b"NOOP\rNOOP\r\n", b"NOOP " + b"x" * MAX_LINE])
def test_a_line_that_is_none_ends_the_conversation(catcher: RunningCatcher, line: bytes) -> None:
    with Dialogue(catcher.port) as talk:
        talk.send(line)
        assert talk.reply().startswith("500 5.5.2")
        assert talk.reply() == ""


def test_a_mail_that_is_too_large_is_read_to_its_end_and_refused(catcher: RunningCatcher) -> None:
    line = b"MAIL FROM:<not@a.command>\r\n" * 1000
    with Dialogue(catcher.port) as talk:
        talk.send(ENVELOPE)
        assert [talk.reply()[:3] for _ in range(3)] == ["250", "250", "354"]
        for _ in range(MAX_SIZE // len(line) + 1):
            talk.send(line)
        talk.send(b".\r\n")
        assert talk.reply().startswith("552 5.3.4")
        assert talk.mail(MESSAGE).startswith("250")

    assert catcher.inbox.count() == 1


def test_addresses_in_any_script_need_smtputf8(catcher: RunningCatcher) -> None:
    with Dialogue(catcher.port) as talk:
        assert talk.ask("MAIL FROM:<röster@example.org>").startswith("553 5.6.7")
        assert talk.ask("MAIL FROM:<desk@example.org>").startswith("250")
        assert talk.ask("RCPT TO:<用户@例え.jp>").startswith("553 5.6.7")
        talk.ask("RSET")
        assert talk.ask("MAIL FROM:<röster@example.org> SMTPUTF8").startswith("250")
        assert talk.ask("RCPT TO:<用户@例え.jp>").startswith("250")
        talk.ask("DATA")
        talk.send("Subject: Überschwemmung 洪水\r\n\r\n".encode() + b".\r\n")
        assert talk.reply().startswith("250")
        talk.send(b"VRFY \xff\xfe\r\n")
        assert talk.reply() == "500 5.5.2 This is not UTF-8"

    (entry,) = catcher.inbox.page().entries
    assert (entry.sender, entry.recipients) == ("röster@example.org", ("用户@例え.jp",))
    assert entry.subject == "Überschwemmung 洪水"


async def test_the_usual_clients_get_their_mail_in(catcher: RunningCatcher) -> None:
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "desk@example.org", "reader@example.org", "Grüße " * 30
    message.set_content("Hello\n.\n..\n")

    with smtplib.SMTP("127.0.0.1", catcher.port) as client:
        client.send_message(message)
    await aiosmtplib.send(message, hostname="127.0.0.1", port=catcher.port)

    first, second = catcher.inbox.page().entries
    assert first.subject == second.subject == ("Grüße " * 30).strip()
    assert catcher.inbox.entry(first.name).text.splitlines() == ["Hello", ".", ".."]


def test_five_thousand_mails_get_five_thousand_names_in_order(catcher: RunningCatcher) -> None:
    total, lanes = 5000, 5

    def send(lane: int) -> None:
        with Dialogue(catcher.port) as talk:
            for number in range(total // lanes):
                talk.send(ENVELOPE.replace(b"reader", b"reader-%d-%d" % (lane, number)) + MESSAGE + b".\r\n")
                assert [talk.reply()[:3] for _ in range(4)] == ["250", "250", "354", "250"]

    threads = [threading.Thread(target=send, args=(lane,)) for lane in range(lanes)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    page = catcher.inbox.page(0, total + 1)
    names = [entry.name for entry in page.entries]
    assert page.total == len(set(names)) == total
    assert names == sorted(names, reverse=True)
    assert {entry.recipients[0] for entry in page.entries} == {
        f"reader-{lane}-{number}@example.org" for lane in range(lanes) for number in range(total // lanes)
    }
    assert {path.name for path in (catcher.inbox.directory / "new").iterdir()} == set(names)


def test_who_does_not_read_the_answers_is_not_read_either(catcher: RunningCatcher) -> None:
    with Dialogue(catcher.port) as talk:
        talk._socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            talk.send(b"HELP\r\n" * 10_000_000)


def test_a_mail_whose_index_line_was_lost_in_a_kill_is_listed_again(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    with running_catcher(maildir) as catcher, Dialogue(catcher.port) as talk:
        for _ in range(2):
            assert talk.mail(MESSAGE).startswith("250")
        catcher.process.send_signal(signal.SIGKILL)
        catcher.process.wait()
    index = tmp_path / "index.tsv"
    first, second = index.read_text().splitlines()
    index.write_text(f"{first}\n{second[:20]}")
    (maildir / "tmp" / "half").write_bytes(b"Sub")

    with running_catcher(maildir) as catcher:
        assert [entry.subject for entry in catcher.inbox.page().entries] == ["The bridge is closed"] * 2
    assert list((maildir / "tmp").iterdir()) == []


def test_a_disk_that_takes_nothing_is_told_to_the_sender(tmp_path: Path) -> None:
    maildir = tmp_path / "Maildir"
    with running_catcher(maildir) as catcher, Dialogue(catcher.port) as talk:
        assert talk.mail(MESSAGE).startswith("250")
        (maildir / "tmp").rmdir()
        assert talk.mail(MESSAGE).startswith("451 4.3.0")
        assert talk.ask("NOOP").startswith("250")


def test_its_end_is_told_to_those_who_are_connected(tmp_path: Path) -> None:
    with running_catcher(tmp_path / "Maildir") as catcher, Dialogue(catcher.port) as talk:
        catcher.process.terminate()
        assert talk.reply().startswith("421 4.3.2")
        assert catcher.process.wait(20) == 0


def test_an_index_line_is_what_the_documentation_says(catcher: RunningCatcher) -> None:
    with Dialogue(catcher.port) as talk:
        talk.ask('MAIL FROM:<"two words"@example.org>')
        talk.ask("RCPT TO:<one@example.org>")
        talk.ask("RCPT TO:<two@example.org>")
        talk.ask("DATA")
        talk.send(b"subject: =?utf-8?q?tab=09and=0Aline_=E2=9C=93?=\r\n folded\r\n\r\n.\r\n")
        talk.reply()

    line = (catcher.inbox.directory.parent / "index.tsv").read_text(encoding="utf-8")
    assert re.fullmatch(
        r"\d{10}\.M\d{6}P\d+Q\d{8}\t\d{10}\.\d{6}\t\"two%20words\"@example\.org\t"
        r"one@example\.org two@example\.org\ttab and line ✓ folded\t60\n",
        line,
    ), line


def test_a_listening_socket_can_be_handed_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = ["--maildir", str(tmp_path / "Maildir"), "--fd", str(listener.fileno())]
        process = subprocess.Popen(
            [sys.executable, "-m", "dispatcher.embedded.catcher", *arguments],
            stdout=subprocess.DEVNULL,
            pass_fds=[listener.fileno()],
        )
        try:
            with Dialogue(listener.getsockname()[1]) as talk:
                assert talk.mail(MESSAGE).startswith("250")
        finally:
            process.terminate()
            process.wait()
