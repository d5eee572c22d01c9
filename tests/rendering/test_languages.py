"""Which language a reader gets, and how templates speak it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.config import LANGUAGES
from dispatcher.rendering import environment
from dispatcher.rendering.catalogues import best_locale, known, translations


@pytest.mark.parametrize(
    ("header", "best"),
    [
        ("uk-UA,uk;q=0.9,en-US;q=0.8,en;q=0.7", "uk"),
        ("en-GB,en;q=0.9", "en"),
        ("de-CH, de;q=0.9, uk;q=0.3", "uk"),
        ("de", None),
        ("", None),
        (None, None),
        ("*", None),
        ("de, *;q=0.1", None),
        ("en;q=0, *", "uk"),
        ("uk;q=0, *;q=0.2", "en"),
        ("uk;q=0, en;q=0", None),
        ("en;q=0.5, uk;q=0.5", "en"),
        ("uk;q=0.5, en;q=0.5", "uk"),
        ("en ; q = 0.1 ,\tUK", "uk"),
        ("uk;q=1.5, en;q=0.2", "en"),
        ("x;;q,,*-uk,<script>", None),
    ],
)
def test_a_reader_gets_the_language_that_the_browser_likes_best(header: str | None, best: str | None) -> None:
    assert [best_locale(header, each) for each in LANGUAGES] == [best or each for each in LANGUAGES]


@given(st.text(), st.text())
def test_any_header_and_any_default_end_in_one_of_our_languages(header: str, default: str) -> None:
    assert best_locale(header, default) in LANGUAGES


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        *(("uk", "uk"), ("uk-UA", "uk"), ("uk_UA.UTF-8", "uk"), ("UK", "uk"), ("en-GB", "en")),
        *(("de", "en"), ("", "en"), ("ukx", "en"), ("../uk", "en"), ("C", "en")),
    ],
)
def test_a_locale_counts_for_its_language_and_others_for_english(locale: str, language: str) -> None:
    assert known(locale) == language


def test_there_is_one_environment_for_each_language_of_a_kind() -> None:
    assert environment("web") is environment("web", "en") is environment("web", "de-CH")
    assert environment("web", "uk") is environment("web", "uk-UA") is not environment("web")


@pytest.mark.parametrize(("language", "words"), [("en", "Stop following this story"), ("uk", "Більше не стежити за")])
def test_a_template_speaks_its_language_and_knows_which(language: str, words: str) -> None:
    template = "{% trans %}\n  Stop following\n  this story\n{% endtrans %} {{ locale }}"
    said = environment("email", language).from_string(template).render()

    assert said.startswith(words)
    assert said.endswith(f" {language}")
    assert translations(f"{language}-XX").gettext("Stop following this story").startswith(words)


def test_what_stands_in_a_sentence_is_escaped() -> None:
    sentence = "{% trans name=name %}Hello, {{ name }}{% endtrans %} {{ _('%(name)s!', name=name) }}"

    assert environment("web", "uk").from_string(sentence).render(name="<b>") == "Hello, &lt;b&gt; &lt;b&gt;!"
