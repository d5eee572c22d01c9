"""What readers fill in on pages for everybody, as it comes in and as it is shown again to be corrected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from dispatcher.errors import Invalid
from dispatcher.model import Cadence
from dispatcher.web.guards import Forbidden

MAX_FIELDS = 30
URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
#: Bytes of a field beside a file.
MAX_FIELD = 16_000
_BREAKS = re.compile(r"[ \t]*[\r\n]+[ \t]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """A form as a page shows it: what is filled in, and what is wrong."""

    email: str = ""
    cadence: str = Cadence.EVERY
    catch_up: bool = True
    problem: str = ""  #: `email`: it is none; `too-many`: asked too often from there
    puzzle: str = ""  #: to be worked out before it is sent again


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """A form as it came in."""

    fields: Mapping[str, str] = field(default_factory=dict)
    file: UploadFile | None = None  #: lies on the disk, and is the page's to close

    def get(self, name: str) -> str:
        return self.fields.get(name, "")

    def line(self, name: str, instead: str = "") -> str:
        """A field of one line, in however many it was typed."""
        return _BREAKS.sub(" ", self.fields.get(name, instead))

    @property
    def is_machine(self) -> bool:
        """Whether the field is filled in that no person sees."""
        return bool(self.get("website"))

    @property
    def cadence(self) -> Cadence:
        """Raises `Invalid` for one that there is not."""
        try:
            return Cadence(self.get("cadence") or Cadence.EVERY)
        except ValueError as error:
            raise Invalid(
                "There is no such choice.", remedy="Go back and choose one from the list.", field="cadence"
            ) from error

    def again(self, *, problem: str = "", puzzle: str = "") -> Form:
        """What the reader filled in, to be corrected."""
        return Form(
            email=self.get("email")[:320],
            cadence=self.cadence,
            catch_up=bool(self.get("catch_up")),
            problem=problem,
            puzzle=puzzle,
        )


async def read(request: Request) -> Sent:
    """The fields of a form; of several with one name the last. Raises `Forbidden` for what no form sends, `Invalid`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != URLENCODED:
        raise Forbidden("This was not sent by a form.", remedy="Open the page, and press the button there.")
    try:
        pairs = parse_qsl((await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise Invalid("This form cannot be read.", remedy="Go back, reload the page, and try again.") from error
    return Sent(fields=dict(pairs))


async def read_upload(request: Request) -> Sent:
    """The fields of a form with one file, which is streamed to the disk. Raises as `read` does."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != MULTIPART:
        raise Forbidden("This was not sent by a form.", remedy="Open the page, and press the button there.")
    try:
        form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_FIELD)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise Forbidden("This form cannot be read.", remedy="Go back, reload the page, and try again.") from error
    files = [each for each in form.values() if isinstance(each, UploadFile)]
    fields = {name: value for name, value in form.items() if isinstance(value, str)}
    return Sent(fields=fields, file=files[0] if files else None)
