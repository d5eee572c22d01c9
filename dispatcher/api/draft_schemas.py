"""The shapes of drafts that other systems hand in, and of the answer."""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, StrictInt

from dispatcher.api.schemas import EXAMPLE, Written
from dispatcher.drafting import Text, Writing
from dispatcher.model import DraftState


class NewDraft(Written):
    """An update that somebody at the desk looks at before it goes out."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**EXAMPLE, "expires_in": 21600}]})

    expires_in: StrictInt | None = Field(None, ge=60, le=31_536_000, description="Seconds from when it is published.")

    def text(self) -> Text:
        """As the action takes it."""
        return Text(
            headline=self.headline,
            body=self.body,
            summary=self.summary,
            kind=self.kind,
            importance=self.importance,
            corrects_seq=self.corrects,
            replaces=self.replaces,
            expires_in=None if self.expires_in is None else timedelta(seconds=self.expires_in),
            successor=self.successor,
        )


class DraftOut(BaseModel):
    """A draft that waits at the desk."""

    id: int
    story: str = Field(description="The slug of the story.")
    state: DraftState
    headline: str
    needs_approval: str | None = Field(description="Why a second person has to approve it; null if nobody has to.")
    url: str = Field(description="Where the desk finds it.")

    @classmethod
    def of(cls, writing: Writing, why: str | None, public_url: str) -> DraftOut:
        return cls(
            id=writing.id,
            story=writing.story.slug,
            state=writing.state,
            headline=writing.text.headline,
            needs_approval=why,
            url=f"{public_url}/desk/drafts/{writing.id}",
        )
