"""What happened while an update went out, line by line: from its figures, the log of the desk, and the incidents."""

from __future__ import annotations

from collections.abc import Sequence

from dispatcher import db
from dispatcher.model import BlastState, ChannelName, DeliveryState
from dispatcher.watching.figures import Event, WatchedBlast

NAMES = {ChannelName.EMAIL: "mail", ChannelName.WEBPUSH: "push"}
CHANNELS = {ChannelName.EMAIL: "Mail", ChannelName.WEBPUSH: "Web push"}
#: What the log of the desk calls it, in the words of this page; what is not here is not shown.
_DONE = {
    "asked for approval": "Approval asked for by {who}",
    "approved": "Approved by {who}",
    "did not wait for approval": "Sent without approval by {who}: {reason}",
    "scheduled": "Scheduled by {who}",
    "paused": "{channel} paused by {who}",
    "resumed": "{channel} goes on, by {who}",
    "cancelled": "{channel} cancelled by {who}",
    "retried": "{channel}: {readers} tried again by {who}{because}",
    "downloaded readers": "List of readers downloaded by {who}",
    "withdrew": "Withdrawn by {who}: {reason}",
}


def events_of(
    row: db.Row, blasts: Sequence[WatchedBlast], log: list[db.Row], incidents: list[db.Row]
) -> tuple[Event, ...]:
    """Every line, the earliest first."""
    events = [Event(at=row["published_at"], what=f"{'Drilled' if row['seq'] < 0 else 'Sent'} by {row['sent_by']}")]
    for blast in blasts:
        events += _of_blast(blast)
    for each in log:
        if line := _logged(each):
            events.append(Event(at=each["at"], what=line))
    for each in incidents:
        events.append(Event(at=each["opened_at"], what=each["text"], is_trouble=True))
        if each["closed_at"] is not None and each["kind"] == "relay":
            events.append(Event(at=each["closed_at"], what=f"Relay {each['subject']} takes mail again"))
    return tuple(sorted(events, key=lambda event: event.at))


def _of_blast(blast: WatchedBlast) -> list[Event]:
    name, channel = NAMES[blast.channel], CHANNELS[blast.channel]
    found: list[Event] = []
    if blast.progress.first_at is not None and blast.first_ms is not None:
        found.append(Event(at=blast.progress.first_at, what=f"First {name} accepted after {seconds(blast.first_ms)}"))
    count = blast.states.get(DeliveryState.WITHDRAWN, 0)
    if count:
        left = blast.progress.last_at[DeliveryState.WITHDRAWN]
        who = "1 reader has" if count == 1 else f"{count:,} readers have"
        found.append(Event(at=left, what=f"{who} left the story and got no {name}"))
    if blast.state is BlastState.DONE and blast.done_at is not None:
        found.append(Event(at=blast.done_at, what=f"{channel} done"))
    if blast.state is BlastState.SUPERSEDED and blast.superseded_by is not None:
        at = blast.done_at or blast.last_at or blast.published_at
        found.append(Event(at=at, what=f"{channel} stopped: update {blast.superseded_by} took the place of the rest"))
    return found


def _logged(row: db.Row) -> str:
    """A line of the log of the desk in the words of this page."""
    words = _DONE.get(row["action"])
    if words is None:
        return ""
    detail = {"channel": "It", "count": "", "reason": "", **row["detail"]}
    count = detail["count"]
    return words.format(
        who=row["who"],
        channel=CHANNELS.get(detail["channel"], "Everything"),
        readers="1 reader" if count == 1 else f"{count:,} readers" if isinstance(count, int) else "Readers",
        reason=detail["reason"],
        because=f": {detail['reason']}" if detail["reason"] else "",
    )


def seconds(milliseconds: float) -> str:
    """A length of time as the live page writes it: 0.09 s, 4.1 s, 41 s, 3 min 20 s, 2 h 5 min."""
    value = milliseconds / 1000
    if value < 0.01:
        return "under 0.01 s"
    if value < 1:
        return f"{value:.2f} s"
    if value < 10:
        return f"{value:.1f} s"
    if value < 120:
        return f"{value:.0f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
