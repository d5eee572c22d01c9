"""What an examination finds: one thing, how it is, and what to do about it."""

from __future__ import annotations

import enum
from dataclasses import dataclass

#: What to do about an incident, by its kind.
REMEDIES = {
    "not_sending": "`dispatcher blast show` tells what holds it; the other findings here, what is not well.",
    "relay": "Mend it there, or add another to DISPATCHER_SMTP_URL. Workers go on by themselves.",
    "no_workers": "Start one: `dispatcher worker`.",
    "unanswered": "Workers answer readers' forms: see whether one lives, and whether a relay takes mail.",
    "dead_letters": "Workers' logs of that time tell why; `dispatcher blast retry --state in_doubt` tries them again.",
}
NO_REMEDY = "The logs of workers and web tell more."


class Health(enum.StrEnum):
    OK = "ok"
    WARN = "warn"  #: works, and could be better
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was examined. `remedy` is empty where there is nothing to do."""

    name: str
    health: Health
    detail: str
    remedy: str = ""

    def as_json(self) -> dict[str, str]:
        """The public form of `doctor --json`."""
        return {"name": self.name, "status": str(self.health), "detail": self.detail, "remedy": self.remedy}
