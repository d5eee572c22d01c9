"""Who may do what: the people of the desk by their role, programs by the scopes of their token."""

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
    READERS = "readers"  #: look readers up, import and suppress
    LOG = "log"  #: read who did what
    APPROVE = "approve"  #: what others wrote, and overrule that it waits
    SETTINGS = "settings"
    PEOPLE = "people"  #: invite, give roles, end


_MAY: dict[Role, frozenset[What]] = {
    Role.REPORTER: frozenset({What.SEE, What.WRITE}),
    Role.EDITOR: frozenset({What.SEE, What.WRITE, What.SEND, What.STEER, What.READERS, What.LOG}),
    Role.LEAD: frozenset(What),
}


def may(role: Role, what: What) -> bool:
    """Whether a role may do something."""
    return what in _MAY[role]


class Scope(StrEnum):
    """What a token of the API is good for."""

    READ = "read"  #: stories and blasts
    PUBLISH = "publish"  #: create and change stories, publish updates
    STEER = "steer"  #: pause, resume, cancel and retry blasts
