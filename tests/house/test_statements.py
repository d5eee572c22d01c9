"""SQL: every statement has a name, a sentence, and somebody who calls it."""

from __future__ import annotations

import re
from pathlib import Path

from dispatcher.db import statements

ROOT = Path(__file__).resolve().parents[2]
QUERIES = sorted((ROOT / "dispatcher/db/queries").glob("*.sql"))


def test_every_statement_has_a_sentence() -> None:
    for file in QUERIES:
        blocks = re.split(r"^-- name: ", file.read_text(), flags=re.MULTILINE)
        assert blocks[0].strip() == "", f"{file.name} begins with something that has no name"
        for block in blocks[1:]:
            name, sentence, *_ = block.splitlines()
            assert re.fullmatch(r"-- [A-Z].+", sentence), f"{file.name}: {name} has no sentence"


def test_every_statement_is_used() -> None:
    code = "\n".join(path.read_text() for path in [*ROOT.glob("dispatcher/**/*.py"), *ROOT.glob("workers/**/*.py")])
    unused = [name for name in statements() if f'"{name}"' not in code]

    assert unused == []


def test_no_sql_hides_in_the_code() -> None:
    verbs = re.compile(r"[\"'](SELECT|INSERT INTO|UPDATE|DELETE FROM|COPY|CREATE TABLE|DROP|TRUNCATE)\s")
    hidden = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*ROOT.glob("dispatcher/**/*.py"), *ROOT.glob("workers/**/*.py")]
        if "dispatcher/db/" not in str(path)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if verbs.search(line)
    ]

    assert hidden == []
