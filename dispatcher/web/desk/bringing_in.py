"""Import readers from a file: hand it in, watch how far it has come, and read what became of it."""

from __future__ import annotations

import csv
import io
import os
import re
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.responses import Response

from dispatcher import uploading
from dispatcher.csvfiles import guarded
from dispatcher.errors import DispatcherError, Invalid, NotFound
from dispatcher.uploading import Uploads
from dispatcher.web.desk.visiting import Visit
from dispatcher.web.readers import PRIVATE

_NUMBER = re.compile(r"[0-9]{1,18}")
#: Bad lines that the page shows; the file has them all.
SHOWN = 200
#: What is counted, in words.
COUNTS = {
    "read": "Lines read",
    "added": "New followers",
    "activated": "Confirmed, who had followed without",
    "already": "Followed before",
    "duplicates": "Further lines of one address",
    "suppressed": "Suppressed, left alone",
    "left": "Had left the story, left alone",
    "refused": "Bad lines, left out",
}


async def bring_in(visit: Visit) -> Response:
    """`/desk/import`: hand a file in for a story; the files of late."""
    problem: DispatcherError | None = None
    if visit.is_post:
        try:
            return await _begin(visit)
        except (Invalid, NotFound) as error:
            problem = error
    return visit.page(
        "import.html",
        status=200 if problem is None else problem.status,
        at="subscribers",
        stories=await uploading.choices(visit.here.database),
        runs=await uploading.listing(visit.here.database),
        chosen=visit.form.get("story")[:80] or visit.request.query_params.get("story", "")[:80],
        most=uploading.MAX_BYTES // 1_000_000,
        problem=problem,
    )


async def _begin(visit: Visit) -> Response:
    """Begin with the file of the form. Raises `Invalid` without one, `NotFound` for the story."""
    sent = visit.form.file
    if sent is None or not sent.size:
        raise Invalid("There is no file, or it is empty.", remedy="Choose a CSV file.", field="file")
    if sent.size > uploading.MAX_BYTES:
        raise Invalid(
            f"The file has more than {uploading.MAX_BYTES // 1_000_000} MB.",
            remedy="Split it, or use `dispatcher subscribers import` on the server.",
            field="file",
        )
    uploads: Uploads = visit.request.app.state.uploads
    file = _kept_open(sent)
    try:
        number = await uploads.begin(
            visit.form.get("story"),
            sent.filename or "",
            sent.size,
            file,
            confirmed=bool(visit.form.get("confirmed")),
            leaves_out=bool(visit.form.get("leaves_out")),
            by=visit.person.email,
        )
    except BaseException:
        file.close()
        raise
    return visit.lead_to(f"/desk/import/{number}")


def _kept_open(sent: UploadFile) -> BinaryIO:
    """The file that was sent, from its beginning: it lives on when the request is over, and has no name any more."""
    file = os.fdopen(os.dup(sent.file.fileno()), "rb", buffering=1024 * 1024)
    file.seek(0)
    return file


async def progress(visit: Visit) -> Response:
    """`/desk/import/{id}`: how far a file has come, or what became of it. The page asks again by itself."""
    found = await uploading.report(visit.here.database, _number(visit), limit=SHOWN + 1)
    row = found.row
    is_over = row["finished_at"] is not None or row["is_lost"]
    return visit.page(
        "import_run.html",
        at="subscribers",
        run=row,
        is_over=is_over,
        counts=[(words, row["counts"][name]) for name, words in COUNTS.items() if name in row["counts"]],
        lines=found.lines[:SHOWN],
        has_more=len(found.lines) > SHOWN,
        percent=min(100, 100 * row["bytes_read"] // max(row["size"], 1)),
    )


async def lines(visit: Visit) -> Response:
    """`/desk/import/{id}/lines.csv`: every line that was not imported, and why. A spreadsheet runs nothing of it."""
    number = _number(visit)
    found = await uploading.report(visit.here.database, number)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(("line", "column", "reason", "detail"))
    writer.writerows((row["line"], row["field"], guarded(row["reason"]), guarded(row["detail"])) for row in found.lines)
    headers = {**PRIVATE, "Content-Disposition": f'attachment; filename="import-{number}-lines.csv"'}
    return Response(out.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _number(visit: Visit) -> int:
    raw = visit.request.path_params["id"]
    if not _NUMBER.fullmatch(raw):
        raise NotFound("There is no such import.", remedy="Choose one from the list.")
    return int(raw)
