"""The press: letters that loop, raise, eat memory or crash come back as a reason, and everybody else's as bytes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import uvloop

from dispatcher.config import LANGUAGES, Newsroom
from dispatcher.model import ChannelName
from dispatcher.rendering.letters import UpdateView, render_update
from dispatcher.rendering.making import View
from dispatcher.rendering.press import USUAL, LetterImpossible, Press, PressUnavailable
from dispatcher.rendering.pressroom import CPU, MEMORY, PATIENCE, explain
from dispatcher.rendering.pushes import render_push
from dispatcher.rendering.samples import sample_notices, sample_views
from dispatcher.rendering.wire import pack, unpack
from tests.support import hostile
from tests.support.boxes import ROOT, survivors

VIEW = sample_views()[0]
#: The clock strikes first where others keep the processors busy.
TOOK_TOO_LONG = (f"it took more than {CPU} seconds of processor time", f"it took more than {PATIENCE:g} seconds")


def says(headline: str) -> UpdateView:
    return replace(VIEW, update=replace(VIEW.update, headline=headline))


@asynccontextmanager
async def a_press(render: str = hostile.NAME) -> AsyncIterator[Press]:
    press = Press(render)
    try:
        yield press
    finally:
        await press.close()


async def letter(press: Press, headline: str = "Water is over the wall") -> bytes:
    return await press.render(says(headline), locale="en", timezone="UTC")


async def reason(press: Press, headline: str = "Water is over the wall") -> str:
    with pytest.raises(LetterImpossible) as caught:
        await letter(press, headline)
    return caught.value.reason


async def test_a_letter_from_the_press_is_the_same_to_the_byte() -> None:
    async with a_press(USUAL) as press:
        for view in sample_views():
            made = await press.render(view, locale="de", timezone="Asia/Kathmandu")
            assert made == render_update(view, locale="de", timezone="Asia/Kathmandu").dumps()


async def test_the_press_makes_pushes_and_notices_too_in_the_language_of_their_readers() -> None:
    async with a_press(USUAL) as press:
        push = await press.render(VIEW, locale="uk-UA", timezone="UTC", channel=ChannelName.WEBPUSH)
        notices = {
            view.kind: await press.render(view, locale="uk", timezone="Europe/Kyiv") for view in sample_notices()
        }
        with pytest.raises(LetterImpossible, match="A notice goes by mail"):
            await press.render(sample_notices()[0], locale="uk", timezone="UTC", channel=ChannelName.WEBPUSH)

    assert push == render_push(VIEW, locale="uk").dumps()
    assert len(set(notices.values())) == len(sample_notices())
    assert all(b"Content-Language: uk\r\n" in made for made in notices.values())


def test_a_press_has_read_what_people_wait_for_before_anybody_asks() -> None:
    script = (
        "from dispatcher.rendering import environment\n"
        "from dispatcher.rendering.making import make\n"
        "from dispatcher.rendering.pressroom import warm_up\n"
        "assert warm_up(make)\n"
        "for kind in ('email', 'push'):\n"
        "    for language in ('en', 'uk'):\n"
        "        for _, name in environment(kind, language).cache.keys():\n"
        "            print(kind, language, name)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    read = set(done.stdout.splitlines())
    for language in LANGUAGES:
        for message in ("update", "confirm", "following", "already", "link"):
            assert {f"email {language} {message}/{name}" for name in ("subject.txt", "body.txt", "body.mjml")} <= read
        assert {f"push {language} update/title.txt", f"push {language} update/body.txt"} <= read


def test_the_press_works_on_the_loop_that_workers_run() -> None:
    async def main() -> bytes:
        async with a_press() as press:
            return await letter(press)

    assert uvloop.run(main()) == render_update(says("Water is over the wall")).dumps()


async def test_what_goes_wrong_comes_back_as_a_reason_and_the_next_letter_is_made() -> None:
    async with a_press() as press:
        assert await reason(press, "raises oh dear") == "ValueError: oh dear"
        assert await reason(press, "quits") == "SystemExit"
        assert await reason(press, "crashes") == "it crashed (signal 11)"
        assert await reason(press, "leaves 0") == "it ended without a letter (exit code 0)"
        assert await reason(press, "leaves 3") == "it ended without a letter (exit code 3)"
        assert await reason(press, "swells") == "it is larger than 1 MB"
        assert await reason(press, "eats") == f"it needed more than {MEMORY} MB of memory"
        first = press.pid
        assert await letter(press) == render_update(says("Water is over the wall")).dumps()
        assert press.pid == first


async def test_processor_time_is_bounded_whatever_a_letter_does_about_it_and_others_do_not_wait() -> None:
    async with a_press() as press:
        await letter(press)
        deaf = asyncio.create_task(reason(press, "loops_deaf"))
        await letter(press)
        assert not deaf.done()
        assert await deaf in TOOK_TOO_LONG


async def test_a_letter_that_waits_for_ever_is_ended_by_the_clock_while_others_are_made() -> None:
    async with a_press() as press:
        sleeping = asyncio.create_task(reason(press, "sleeps"))
        for _ in range(3):
            await letter(press)
        assert not sleeping.done()
        assert await sleeping == f"it took more than {PATIENCE:g} seconds"


async def test_two_letters_are_made_at_a_time_and_each_gets_its_own_answer() -> None:
    async with a_press() as press:
        headlines = [f"slow 0.1 {number}" for number in range(5)] + ["raises oh dear"]
        made = await asyncio.gather(*(letter(press, each) for each in headlines), return_exceptions=True)

    assert made[:5] == [render_update(says(each)).dumps() for each in headlines[:5]]
    assert isinstance(made[5], LetterImpossible)


async def test_a_letter_can_neither_write_to_our_log_nor_read_our_settings(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPATCHER_SECRET_KEY", "nobody must read this")
    async with a_press() as press:
        assert await letter(press, "prints a lot")
        assert await reason(press, "reads") == "ValueError: nothing"
    assert capfd.readouterr() == ("", "")


async def test_a_press_that_dies_is_replaced_and_the_letter_is_made() -> None:
    async with a_press() as press:
        await letter(press)
        first = press.pid
        waiting = asyncio.create_task(letter(press, "slow 0.5"))
        await asyncio.sleep(0.2)
        assert first is not None
        os.kill(first, signal.SIGKILL)

        assert await waiting == render_update(says("slow 0.5")).dumps()
        assert press.pid not in (None, first)


async def test_a_press_that_stands_still_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async with a_press() as press:
        await letter(press)
        first = press.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        monkeypatch.setattr("dispatcher.rendering.press.PATIENCE", 5.0)
        waiting = [asyncio.create_task(letter(press, f"slow 0 {number}")) for number in range(2)]
        async with asyncio.timeout(20):
            while len(press._jobs) < 2:
                await asyncio.sleep(0.01)
        monkeypatch.undo()  # both wait for this press no longer than that; the next may take its time to start

        assert await asyncio.gather(*waiting) == [render_update(says(f"slow 0 {n}")).dumps() for n in range(2)]
        assert press.pid not in (None, first)


async def test_a_press_that_cannot_work_is_no_fault_of_the_letter(capfd: pytest.CaptureFixture[str]) -> None:
    async with a_press("tests.support.hostile:nothing") as press:
        with pytest.raises(PressUnavailable):
            await letter(press)
    assert "has no attribute 'nothing'" in capfd.readouterr().err


async def test_closing_leaves_no_process_even_in_the_middle_of_a_letter() -> None:
    async with a_press() as press:
        await letter(press)
        looping = asyncio.create_task(letter(press, "loops"))
        await asyncio.sleep(0.2)
        program = psutil.Process(press.pid)
        family = [program, *program.children(recursive=True)]
    with pytest.raises(PressUnavailable):
        await looping

    assert len(family) > 1
    assert survivors(family) == []


def test_the_press_dies_with_its_worker_and_not_of_a_signal_to_the_group() -> None:
    script = (
        "import asyncio, psutil\n"
        "from tests.support import hostile\n"
        "from tests.rendering.test_press import Press, letter\n"
        "async def main():\n"
        "    press = Press(hostile.NAME)\n"
        "    await letter(press)\n"
        "    print(press.pid, flush=True)\n"
        "    await letter(press, 'sleeps')\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        program = psutil.Process(int(worker.stdout.readline()))
        for signum in (signal.SIGTERM, signal.SIGINT):
            program.send_signal(signum)
        time.sleep(0.1)
        assert program.is_running()
        family = [program, *program.children(recursive=True)]
        worker.kill()

    assert survivors(family) == []


class TestTemplates:
    """Payloads in real templates, in a copy of the program: the press reads what an editor has just saved."""

    @pytest.fixture
    def template(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Template:
        copy_program(tmp_path)
        monkeypatch.chdir(tmp_path)  # `python -m` looks there first
        return Template(tmp_path / "templates/email/update/body.txt")

    async def test_every_bomb_ends_with_a_reason_and_a_mended_template_prints_at_once(self, template: Template) -> None:
        async with a_press(USUAL) as press:
            good = await letter(press)
            for payload in (
                "{{ 'a' * 2000000000 }}",
                "{{ 'a'.ljust(3000000000) }}",
                "{{ '%03000000000d'|format(1) }}",
                "{% set a = 'a' * 150000000 %}{{ a ~ a }}",
            ):
                template.write(payload)
                assert await reason(press) == f"it needed more than {MEMORY} MB of memory"
            template.write("{{ 'a' * 3000000 }}")
            assert await reason(press) == "it is larger than 1 MB"
            template.mend()
            assert await letter(press) == good

    async def test_a_mistake_in_a_push_is_named_and_the_mail_is_made(self, template: Template) -> None:
        push = Template(template.path.parents[2] / "push/update/title.txt")
        push.write("{{ title }}{{ foo }}")
        async with a_press(USUAL) as press:
            assert await letter(press)
            with pytest.raises(LetterImpossible) as caught:
                await press.render(VIEW, locale="uk", timezone="UTC", channel=ChannelName.WEBPUSH)
            assert caught.value.reason == "UndefinedError: 'foo' is undefined (push/update/title.txt, line 1)"
            push.write("{% if %}")
            with pytest.raises(LetterImpossible, match=r"\(push/update/title.txt, line 1\)"):
                await press.render(VIEW, locale="en", timezone="UTC", channel=ChannelName.WEBPUSH)

    async def test_a_mistake_is_named_with_its_template_and_line(self, template: Template) -> None:
        async with a_press(USUAL) as press:
            template.write("One line.\n{{ foo }}")
            assert await reason(press) == "UndefinedError: 'foo' is undefined (update/body.txt, line 2)"
            template.write("One line.\n\n{% if %}")
            assert (await reason(press)).endswith("(update/body.txt, line 3)")
            template.write("{% include 'nowhere.txt' %}")
            assert "nowhere.txt" in await reason(press)
            template.path.with_name("body.mjml").write_text("<mjml><mj-body>")
            template.mend()
            assert "not well-formed MJML" in await reason(press)

    async def test_a_press_starts_although_a_template_loops(self, template: Template) -> None:
        template.write("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}")
        async with a_press(USUAL) as press:
            assert await reason(press) in TOOK_TOO_LONG
            template.mend()
            assert await letter(press)


class Template:
    """A template to be broken and mended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.whole = path.read_text()

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def mend(self) -> None:
        self.path.write_text(self.whole)


def copy_program(directory: Path) -> None:
    """The program and its templates once more, for tests that break them."""
    for name in ("dispatcher", "workers", "templates"):
        shutil.copytree(ROOT / name, directory / name)


def test_a_view_survives_the_way_to_the_press() -> None:
    adorned = replace(VIEW, newsroom=Newsroom(name="L", logo=Path("/etc/logo.svg"), colours=("#123456", "#abcdef")))
    views: list[View] = [*sample_views(), adorned, *sample_notices()]
    for view in views:
        for channel in ChannelName:
            assert unpack(pack(view, locale="pt-BR", timezone="America/Sao_Paulo", channel=channel)) == (
                view,
                "pt-BR",
                "America/Sao_Paulo",
                channel,
            )


def test_what_is_no_view_is_refused() -> None:
    good = pack(VIEW, locale="en", timezone="UTC")
    for bad in (
        good.replace(b'"seq": 1', b'"seq": "1"').replace(b'"seq": 4', b'"seq": "4"'),
        good.replace(b'"kind": "update"', b'"kind": "rumour"'),
        good.replace(b'"locale": "en"', b'"locale": 1'),
        good.replace(b'"about": "update"', b'"about": "notice"'),
        good.replace(b'"about": "update"', b'"about": "rumour"'),
        good.replace(b'"channel": "email"', b'"channel": "pigeon"'),
        good.replace(b'"newsroom"', b'"newsrooms"'),
        b"{}",
    ):
        assert bad != good
        with pytest.raises((ValueError, TypeError, KeyError)):
            unpack(bad)


def test_a_reason_is_one_short_line_whatever_the_error_says() -> None:
    assert explain(ValueError("one\ntwo")) == "ValueError: one"
    assert explain(ValueError()) == "ValueError"
    assert explain(ValueError("a\x00\x1bb")) == "ValueError: a b"
    assert len(explain(ValueError("long " * 1000))) < 320
