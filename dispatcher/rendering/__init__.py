"""Templates: where they are, and the one environment that renders each kind of them in each language.

Templates may be edited by newsrooms, so they run sandboxed; a name that is not there is an error and never an empty
string; HTML and MJML are escaped by themselves, plain text is not.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from types import CodeType

from jinja2 import BytecodeCache, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from jinja2.sandbox import ImmutableSandboxedEnvironment

from dispatcher.errors import Misconfigured
from dispatcher.rendering.catalogues import known, translations

__all__ = ["environment", "escapes", "template_dir"]

_PACKAGE = Path(__file__).resolve().parent.parent


def template_dir() -> Path:
    """The directory of all templates: in a checkout `templates/`, in an installed package `_templates/`.

    Raises `Misconfigured` if there is neither.
    """
    for found in (_PACKAGE / "_templates", _PACKAGE.parent / "templates"):
        if (found / "email").is_dir():
            return found
    raise Misconfigured("The templates are missing from this installation.", remedy="Install Dispatcher again.")


def environment(kind: str, locale: str = "en") -> ImmutableSandboxedEnvironment:
    """The environment for the templates below `templates/KIND`, such as "email" or "web"; names start from there.

    Its templates speak the language of `locale`, English where there is no other: `{% trans %}` and `gettext` (new
    style: placeholders are escaped) take from its catalogue, and the global `locale` is its name, such as "uk". It is
    made once per process and language, so filters and globals that a door adds to it stay.

    Raises `Misconfigured` if there are no templates of that kind, or the catalogue is missing.
    """
    return _environment(kind, known(locale))


class _Compiled(BytecodeCache):
    """Templates that were compiled for one language, for the others: in this process, and in those that it forks."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._kept.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._kept[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _Compiled()
#: Whose filters write in a language: what they make of constants is compiled into the template.
_OF_ONE_LANGUAGE = ("web",)


@cache
def _environment(kind: str, language: str) -> ImmutableSandboxedEnvironment:
    directory = template_dir() / kind
    if not directory.is_dir():
        raise Misconfigured(f"There are no templates of the kind {kind!r}.", field="kind")
    made = ImmutableSandboxedEnvironment(
        loader=FileSystemLoader(directory),
        undefined=StrictUndefined,
        autoescape=escapes,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        bytecode_cache=None if kind in _OF_ONE_LANGUAGE else _COMPILED,
    )
    made.policies["ext.i18n.trimmed"] = True
    made.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    made.globals["locale"] = language
    return made


def escapes(name: str | None) -> bool:
    """Whether a template's values are escaped for HTML: always, unless it is plain text by its name."""
    return name is None or not name.endswith(".txt")
