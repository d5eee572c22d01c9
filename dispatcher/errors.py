"""The error tree: what went wrong, what to do about it, and the HTTP status that says so.

A class's docstring is its default message; `remedy` is the sentence that tells the reader what to do next.
Doors (API, pages, command line) render these and nothing else; anything outside this tree is a bug.
"""

from __future__ import annotations


class DispatcherError(Exception):
    """Something went wrong in Dispatcher."""

    status = 500
    remedy = ""

    def __init__(self, message: str | None = None, *, remedy: str | None = None, field: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.remedy = remedy if remedy is not None else type(self).remedy
        self.field = field
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class Invalid(DispatcherError):
    """A value is not acceptable."""

    status = 422


class TooLarge(Invalid):
    """A value is too large."""

    status = 413


class NotFound(DispatcherError):
    """There is no such thing."""

    status = 404


class Conflict(DispatcherError):
    """This contradicts what is already there."""

    status = 409


class StoryClosed(Conflict):
    """The story is closed and takes no more updates."""

    remedy = "Create a new story, and name it as the successor."


class IdempotencyMismatch(Conflict):
    """This idempotency key was used for an update with another content."""

    remedy = "Use a new key for a new update; repeat the same content to get the first answer again."


class Unauthorized(DispatcherError):
    """A valid bearer token is needed."""

    status = 401
    remedy = "Create one with `dispatcher token create NAME` and send it as `Authorization: Bearer TOKEN`."


class TooMany(DispatcherError):
    """That was asked too often."""

    status = 429
    remedy = "Try again in an hour."


class Misconfigured(DispatcherError):
    """A setting is wrong or missing."""

    status = 500


class Unavailable(DispatcherError):
    """A part that is needed does not answer."""

    status = 503


class DatabaseUnavailable(Unavailable):
    """The database does not answer."""

    remedy = "Start it, or correct DISPATCHER_DATABASE_URL; `dispatcher doctor` tells more."


class BrokerUnavailable(Unavailable):
    """The broker does not answer."""

    remedy = "Start it, or correct DISPATCHER_BROKER_URL; published updates still go out, a few seconds later."


class RelayUnavailable(Unavailable):
    """The relay does not answer."""

    remedy = "Start it, or correct DISPATCHER_SMTP_URL; mail waits and goes out once it answers."
