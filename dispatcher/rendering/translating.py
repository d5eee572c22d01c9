"""The work of translators: what there is to be translated, bringing catalogues up to date, and what they still lack.

`python -m dispatcher.rendering --catalogues` writes the files, `--lint` complains about them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_file
from babel.messages.pofile import write_po

from dispatcher.config import LANGUAGES
from dispatcher.errors import Misconfigured
from dispatcher.rendering import template_dir
from dispatcher.rendering.catalogues import SOURCE, catalogue_path, read_catalogue

_CODE = Path(__file__).resolve().parent.parent
_TEMPLATES = (".html", ".mjml", ".txt", ".xml")
_JINJA = {"silent": "false", "trimmed": "true", "trim_blocks": "true", "lstrip_blocks": "true"}
#: Words before a message that explain it to translators.
_COMMENT = "Translators:"
_PLACEHOLDER = re.compile(r"%\(\w+\)[a-z]|%%|%")
#: Before the messages of a file. There are no dates and names in it: the history of the file knows them.
_HEAD = """\
# Dispatcher in the language {language}. Placeholders such as %(story)s stay as they are.
msgid ""
msgstr ""
"Project-Id-Version: Dispatcher\\n"
"Language: {language}\\n"
"Plural-Forms: {plural}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


def extract() -> Catalog:
    """Every message that stands in a template or in our code, with the files where it does.

    Raises `jinja2.TemplateSyntaxError` for a template that cannot be read.
    """
    found = Catalog(charset="utf-8")
    for name, root, suffixes in (("templates", template_dir(), _TEMPLATES), ("dispatcher", _CODE, (".py",))):
        for path in sorted(each for each in root.rglob("*") if each.suffix in suffixes):
            for line, message, comments, context in _messages(path):
                where = f"{name}/{path.relative_to(root).as_posix()}"
                found.add(message, None, [(where, line)], auto_comments=comments, context=context)
    return found


def _messages(path: Path) -> Iterable[tuple[int, str | tuple[str, ...], list[str], str | None]]:
    method, options = ("python", {}) if path.suffix == ".py" else ("jinja2", _JINJA)
    return extract_from_file(method, path, DEFAULT_KEYWORDS, (_COMMENT,), options, strip_comment_tags=True)


def update_catalogues() -> list[Path]:
    """Bring every catalogue up to date: new messages come in without words, those that nobody says any more leave.

    Returns the files. What is new or has changed is for a person to translate; `lint_catalogues` names it.
    """
    messages = extract()
    written = []
    for language in (each for each in LANGUAGES if each != SOURCE):
        path = catalogue_path(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        old = read_catalogue(language) if path.is_file() else Catalog(locale=language, charset="utf-8")
        path.write_bytes(_written(_updated(old, messages), language))
        written.append(path)
    return written


def _updated(old: Catalog, messages: Catalog) -> Catalog:
    made = Catalog(locale=old.locale, charset="utf-8")
    for message in _said(messages):
        known = old.get(message.id, message.context)
        made.add(
            message.id,
            known.string if known is not None else None,
            sorted({(file, 0) for file, _ in message.locations}),
            auto_comments=message.auto_comments,
            user_comments=known.user_comments if known is not None else (),
            context=message.context,
        )
    return made


def _written(catalogue: Catalog, language: str) -> bytes:
    file = io.BytesIO()
    write_po(file, catalogue, width=110, omit_header=True, include_lineno=False, sort_by_file=True)
    head = _HEAD.format(language=language, plural=f"nplurals={catalogue.num_plurals}; plural={catalogue.plural_expr};")
    return head.encode() + file.getvalue()


def lint_catalogues() -> list[str]:
    """What the catalogues lack, as `path:line: problem`. Empty if every language says everything."""
    messages, found = extract(), []
    for language in (each for each in LANGUAGES if each != SOURCE):
        path = catalogue_path(language)
        try:
            catalogue = read_catalogue(language)
        except Misconfigured as error:
            found.append(f"{path}:1: {error.message}")
            continue
        found += [f"{path}:{problem}" for problem in lint_catalogue(catalogue, messages)]
    return found


def lint_catalogue(catalogue: Catalog, messages: Catalog) -> Iterator[str]:
    """Problems of one catalogue, as `line: problem`: messages that it lacks, has in vain, or has got wrong."""
    for message in _said(messages):
        if catalogue.get(message.id, message.context) is None:
            file, line = message.locations[0]
            yield f"1: {_short(message)} of {file}, line {line}, is missing; run --catalogues"
    for message in _said(catalogue):
        line = message.lineno or 1
        if messages.get(message.id, message.context) is None:
            yield f"{line}: nobody says {_short(message)} any more; run --catalogues"
        yield from (f"{line}: {_short(message)} {problem}" for problem in _problems(message, catalogue.num_plurals))
    yield from (f"1: {_short(message)} is obsolete; run --catalogues" for message in catalogue.obsolete.values())


def _problems(message: Message, plurals: int) -> Iterator[str]:
    if message.fuzzy:
        yield "is marked as fuzzy"
    strings = [each or "" for each in _each(message.string)]
    if not all(strings):
        yield "is not translated"
        return
    if message.pluralizable and len(strings) != plurals:
        yield f"has {len(strings)} plural forms and not {plurals}"
    # The first form of a plural also stands for 21: it needs the number that English may leave out for one.
    wanted = _placeholders(_each(message.id)[-1])
    yield from (f"has other placeholders in {each!r}" for each in strings if _placeholders(each) != wanted)


def _placeholders(text: str | None) -> set[str]:
    return set(_PLACEHOLDER.findall(text or ""))


def _each(words: Sequence[str | None] | str | None) -> Sequence[str | None]:
    return [words] if words is None or isinstance(words, str) else words


def _said(catalogue: Catalog) -> Iterable[Message]:
    """The messages without the header."""
    return (message for message in catalogue if message.id)


def _short(message: Message) -> str:
    words = _each(message.id)[0] or ""
    return repr(words if len(words) <= 60 else f"{words[:59]}…")
