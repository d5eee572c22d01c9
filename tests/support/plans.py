"""What a statement does, where the database keeps it: `EXPLAIN` shows a call of a function and not what is in it."""

from __future__ import annotations

import re

from dispatcher import db
from tests.support.boxes import ROOT


def explained(name: str) -> str:
    """A named statement, or the one in the function that it calls, with the same values to be bound."""
    statement = db.statements()[name]
    called = re.fullmatch(r"SELECT (?:\* FROM )?(\w+)\(.*\);", statement, re.DOTALL)
    if called is None:
        return statement
    schema = (ROOT / "dispatcher/db/schema.sql").read_text()
    found = re.search(rf"CREATE FUNCTION {called[1]}\((.*?)\)\s+RETURNS.*?\$\$(.*?)\$\$;", schema, re.DOTALL)
    assert found is not None, called[1]
    body = found[2]
    for parameter, kind in re.findall(r"p_(\w+) ([\w\[\]]+)", found[1]):
        body = re.sub(rf"\bp_{parameter}\b", f"%({parameter})s::{kind}", body)
    return body
