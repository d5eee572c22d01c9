"""Editors' Markdown: nothing of it is lost, and nothing in it runs."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher import markdown


def a_mail_body(source: str, longest: int = 40_000) -> markdown.MailBody:
    return markdown.for_mail(source, longest=longest)


ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg/onload=alert(1)>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1))",
    "[x](data:text/html;base64,PHNjcmlwdD4=)",
    "[x](vbscript:msgbox(1))",
    "[x](file:///etc/passwd)",
    "[x](//evil.example/x)",
    "[x](/relative)",
    "<javascript:alert(1)>",
    "![x](javascript:alert(1))",
    '![x" onerror="alert(1)](https://img.example/a.png)',
    '![x](https://img.example/a.png" onerror="alert(1))',
    '[x](https://a.example "t\\" onmouseover=\\"alert(1)")',
    "[a]: javascript:alert(1)\n\n[a]",
    "```html\n<script>alert(1)</script>\n```",
    '```"><script>alert(1)</script>\nx\n```',
    "`<script>alert(1)</script>`",
    "<style>body{display:none}</style>",
    "<iframe src=https://evil.example></iframe>",
    "<mj-include path='/etc/passwd' />",
    "| <b onclick=x> | b |\n|---|---|\n| <script>x</script> | 2 |",
    "<!--[if mso]><script>x</script><![endif]-->",
    "</div></body></html><script>alert(1)</script>",
    "\\<script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}{{ config }}",
]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def elements(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = _Elements()
    parser.feed(html)
    return parser.found


def assert_harmless(html: str) -> None:
    for tag, attributes in elements(html):
        assert tag in {
            *("p", "br", "hr", "strong", "em", "s", "a", "code", "pre", "img", "ul", "ol", "li", "blockquote"),
            *("h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td"),
        }
        assert set(attributes) <= {"href", "src", "alt", "title", "width", "start", "style", "dir", "rel"}
        assert re.match(r"(https?://|mailto:)", attributes.get("href") or "https://", re.IGNORECASE)
        assert (attributes.get("src") or "https://").lower().startswith("https://")


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_comes_out_as_harmless_text(attack: str) -> None:
    for source in (attack, f"> - {attack}", f"# {attack}", f"**{attack}**"):
        assert_harmless(a_mail_body(source).html)
        assert_harmless(markdown.to_html(source))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.sampled_from([*ATTACKS, "\n", "\n\n", "> ", "- ", "*", "`", "](", "<", '"']), st.text(max_size=8))
    ).map("".join)
)
def test_no_mixture_of_attacks_is_harmful(source: str) -> None:
    assert_harmless(a_mail_body(source).html)
    assert markdown.to_text(source) == markdown.to_text(source).strip("\n")


ARTICLE = "\n\n".join(
    [
        "## Night on the Vessel",
        "Mayor **Łucja Brandström** and *Þórdís Æsa Ní Dhomhnaill* met at the [crisis room](https://karsholm.example/crisis?a=1&b=2).",
        *(f"Paragraph {number}: " + "the water rose by a hand, and nobody slept; " * 6 for number in range(18)),
        "> “We would rather wake ten thousand people for nothing than one too late.”\n>\n> – the mayor",
        "- one & two\n- three < four\n  - deeper\n- 水位 5.90 m",
        "3. third\n4. fourth",
        "![The dam, by night](https://img.example/dam.jpg)",
        "    indented  code",
        "Last line.  \nAfter a hard break, <https://ledger.example/x> and “quotes” – dashes … 🙂",
    ]
)


def test_a_long_article_arrives_whole_in_html_and_text() -> None:
    assert len(ARTICLE) > 5000
    body = a_mail_body(ARTICLE)

    assert not body.cut
    for part in (body.html, body.text):
        for words in (
            "Łucja Brandström",
            "Þórdís Æsa Ní Dhomhnaill",
            "水位 5.90 m",
            "🙂",
            "for nothing than one",
            "“quotes” – dashes …",
        ):
            assert words in " ".join(re.sub(r"\n(> )?", " ", part).split())
        assert all(f"Paragraph {number}:" in part for number in range(18))
    assert '<a href="https://karsholm.example/crisis?a=1&amp;b=2">crisis room</a>' in body.html
    assert '<img src="https://img.example/dam.jpg" alt="The dam, by night" width="536">' in body.html
    assert '<ol start="3">' in body.html
    assert "one &amp; two" in body.html
    assert "crisis room [1]" in body.text
    assert body.text.endswith("[1] https://karsholm.example/crisis?a=1&b=2")
    assert "[Image: The dam, by night, https://img.example/dam.jpg]" in body.text
    assert "one & two" in body.text
    assert "> – the mayor" in body.text
    assert "3. third\n4. fourth" in body.text
    assert "* three < four\n  * deeper\n* 水位" in body.text
    assert all(len(line) <= 72 for line in body.text.split("\n"))


def test_headings_begin_below_those_of_the_mail() -> None:
    assert [tag for tag, _ in elements(a_mail_body("# a\n\n## b\n\n###### c").html)] == ["h3", "h4", "h6"]


def test_an_image_without_tls_is_only_its_description() -> None:
    body = a_mail_body("![A <dam>](http://img.example/a.png)")

    assert body.html.strip() == "<p><em>A &lt;dam&gt;</em></p>"
    assert body.text == "A <dam>"


def test_text_from_right_to_left_has_its_direction_marked() -> None:
    assert '<p dir="auto">' in a_mail_body("الفيضان قادم").html
    assert "dir=" not in a_mail_body("The flood comes").html


@pytest.mark.parametrize(
    "source", ["word " * 60_000, "x" * 100_000, "- a\n" * 30_000, "**a** " * 20_000, "[a](https://b.example) " * 5000]
)
def test_a_text_that_is_too_long_for_a_mail_is_cut_and_says_so(source: str) -> None:
    body = a_mail_body(source)

    assert body.cut
    assert 20_000 < len(body.html.encode()) <= 40_000
    assert_harmless(body.html)


@pytest.mark.parametrize(
    "source", ["[" * 20_000, "> " * 20_000, "*a **b " * 5000, "![" * 10_000, "`" * 20_000, "<" * 20_000]
)
def test_a_text_that_is_made_to_be_slow_is_not(source: str) -> None:
    assert_harmless(a_mail_body(source).html)


def test_the_first_words_are_plain_and_end_at_a_word() -> None:
    assert (
        markdown.first_words("# Big\n\n**Bold** [link](https://a.example) and more words", longest=22)
        == "Big Bold link and …"
    )


def test_control_characters_are_left_out() -> None:
    assert a_mail_body("a\x00b\x1b[31mc\x85d").text == "ab[31mcd"
