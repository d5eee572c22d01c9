"""Who may do what at the desk: one table, and nothing else decides."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """What a person of the newsroom is trusted with; each role may do all that the one before it may."""

    REPORTER = "reporter"
    EDITOR = "editor"
    LEAD = "lead"


class What(StrEnum):
    """Something that not everybody may do."""

    SEE = "see"  #: stories, blasts, and what became of them
    WRITE = "write"  #: drafts
    SEND = "send"  #: publish, schedule, close a story
    STEER = "steer"  #: pause, resume, cancel, retry, replace, correct, withdraw
    LOG = "log"  #: read who did what
    APPROVE = "approve"  #: what others wrote, and overrule that it waits
    SETTINGS = "settings"
    PEOPLE = "people"  #: invite, give roles, end


_MAY: dict[Role, frozenset[What]] = {
    Role.REPORTER: frozenset({What.SEE, What.WRITE}),
    Role.EDITOR: frozenset({What.SEE, What.WRITE, What.SEND, What.STEER, What.LOG}),
    Role.LEAD: frozenset(What),
}


def may(role: Role, what: What) -> bool:
    """Whether a role may do something."""
    return what in _MAY[role]
