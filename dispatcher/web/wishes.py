"""The buttons of a reader's own page, and what each of them does."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, time

from starlette.datastructures import FormData

from dispatcher import db, subscribing
from dispatcher.errors import Invalid
from dispatcher.model import Cadence, ChannelName
from dispatcher.subscribing import Followed

#: Digits of a device's number that are looked at.
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What one reader's form asks for."""

    database: db.Database
    subscriber_id: int
    found: list[Followed]
    form: FormData

    async def grant(self) -> dict[str, str]:
        """Do what the pressed button says, and say what to tell the reader. Raises `Invalid` and changes nothing."""
        action, _, what = str(self.form.get("do", "")).partition(":")
        actions = {
            "save": self._save,
            "stop": self._stop,
            "stop-all": self._stop_all,
            "again": self._again,
            "pause": self._pause,
            "resume": self._resume,
            "quiet": self._quiet,
            "loud": self._loud,
            "language": self._language,
            "remove": self._remove,
        }
        if action not in actions:
            raise _senseless()
        return await actions[action](what)

    async def _save(self, _: str) -> dict[str, str]:
        """How often and where, for all stories of the form. A choice that was not offered for one changes none."""
        changes = [(each, *self._chosen(each)) for each in self.found if each.ended_at is None]
        for each, cadence, channels in changes:
            if channels != each.channels:
                await subscribing.set_channels(self.database, each.story.id, self.subscriber_id, channels)
            if cadence != each.cadence:
                await subscribing.set_cadence(self.database, each.story.id, self.subscriber_id, cadence)
        return {"done": "saved"}

    def _chosen(self, each: Followed) -> tuple[Cadence, frozenset[ChannelName]]:
        slug = each.story.slug
        try:
            cadence = Cadence(str(self.form.get(f"cadence:{slug}", each.cadence)))
            channels = frozenset(ChannelName(str(value)) for value in self.form.getlist(f"channels:{slug}"))
        except ValueError as error:
            raise Invalid("There is no such choice.", remedy="Go back and choose one from the list.") from error
        if f"where:{slug}" not in self.form:
            return cadence, each.channels  # the page offered no choice
        if not channels:
            raise Invalid(
                "A story needs at least one channel.",
                remedy="Go back and choose email or push, or stop following the story.",
                field="channels",
            )
        return cadence, channels

    async def _stop(self, slug: str) -> dict[str, str]:
        await subscribing.leave(self.database, self._story_id(slug), self.subscriber_id)
        return {"done": "stopped", "story": slug}

    async def _stop_all(self, _: str) -> dict[str, str]:
        await subscribing.leave(self.database, subscribing.ALL_STORIES, self.subscriber_id)
        return {"done": "stopped-all"}

    async def _again(self, slug: str) -> dict[str, str]:
        await subscribing.follow_again(self.database, self._story_id(slug), self.subscriber_id)
        return {"done": "back", "story": slug}

    async def _pause(self, _: str) -> dict[str, str]:
        try:
            until = date.fromisoformat(str(self.form.get("until", "")))
        except ValueError as error:
            raise Invalid("Say until when.", remedy="Go back and choose a day.", field="until") from error
        await subscribing.pause(self.database, self.subscriber_id, until)
        return {"done": "paused"}

    async def _resume(self, _: str) -> dict[str, str]:
        await subscribing.pause(self.database, self.subscriber_id, None)
        return {"done": "resumed"}

    async def _quiet(self, _: str) -> dict[str, str]:
        await self._set_quiet(self._time("quiet_from"), self._time("quiet_to"))
        return {"done": "quiet"}

    async def _loud(self, _: str) -> dict[str, str]:
        await self._set_quiet(None, None)
        return {"done": "loud"}

    async def _set_quiet(self, quiet_from: time | None, quiet_to: time | None) -> None:
        await subscribing.set_quiet(
            self.database,
            self.subscriber_id,
            quiet_from,
            quiet_to,
            breaking=bool(self.form.get("breaking")),
            timezone=str(self.form.get("timezone", "")),
        )

    def _time(self, name: str) -> time:
        try:
            found = time.fromisoformat(str(self.form.get(name, "")))
        except ValueError as error:
            raise Invalid(
                "Quiet hours need a beginning and an end.", remedy="Go back and give both times.", field=name
            ) from error
        return found.replace(tzinfo=None, second=0, microsecond=0)

    async def _language(self, _: str) -> dict[str, str]:
        await subscribing.set_language(self.database, self.subscriber_id, str(self.form.get("language", "")))
        return {"done": "language"}

    async def _remove(self, number: str) -> dict[str, str]:
        if not _NUMBER.fullmatch(number):
            raise _senseless()
        await subscribing.remove_device(self.database, self.subscriber_id, int(number))
        return {"done": "removed"}

    def _story_id(self, slug: str) -> int:
        for each in self.found:
            if each.story.slug == slug:
                return each.story.id
        raise _senseless()


def _senseless() -> Invalid:
    return Invalid("This form does not say what to do.", remedy="Go back, reload the page, and try again.", field="do")
