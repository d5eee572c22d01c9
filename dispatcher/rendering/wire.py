"""A view as JSON and back, on its way to the process that renders it. Strict: what does not fit its type is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, is_dataclass
from datetime import datetime
from email.headerregistry import Address
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

from dispatcher.model import ChannelName
from dispatcher.rendering.letters import UpdateView
from dispatcher.rendering.making import View
from dispatcher.rendering.notices import NoticeView

#: The views that travel, by the name that goes with them.
_VIEWS: dict[str, type[View]] = {"update": UpdateView, "notice": NoticeView}


class Job(NamedTuple):
    """What the press is to make."""

    view: View
    locale: str
    timezone: str
    channel: ChannelName


def pack(view: View, *, locale: str, timezone: str, channel: ChannelName = ChannelName.EMAIL) -> bytes:
    """A letter to be made, as JSON. Raises TypeError for a value that JSON cannot carry."""
    (about,) = (name for name, kind in _VIEWS.items() if type(view) is kind)
    job = {"about": about, "channel": channel, "locale": locale, "timezone": timezone, "view": asdict(view)}
    return json.dumps(job, default=_plain).encode()


def unpack(data: bytes) -> Job:
    """What `pack` was given. Raises ValueError, TypeError or KeyError for anything else."""
    read = json.loads(data)
    return Job(
        view=_build(_VIEWS[read["about"]], read["view"]),
        locale=_build(str, read["locale"]),
        timezone=_build(str, read["timezone"]),
        channel=_build(ChannelName, read["channel"]),
    )


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Address):
        return [value.display_name, value.username, value.domain]
    raise TypeError(f"a view cannot hold {type(value).__name__}")


def _build(kind: Any, value: Any) -> Any:
    """`value` as that type: the types which views are made of, and no others."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (each for each in arguments if each is not type(None))
        return None if value is None else _build(inner, value)
    if origin is tuple:
        kinds = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_build(each, item) for each, item in zip(kinds, value, strict=True))
    if is_dataclass(kind):
        return _record(kind, value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    if kind is Path:
        return Path(_build(str, value))
    if kind is Address:
        return Address(*(_build(str, each) for each in value))
    if issubclass(kind, Enum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected, not {type(value).__name__}")
    return value


def _record(kind: Any, value: Any) -> Any:
    types = _types(kind)
    if value.keys() != types.keys():
        raise ValueError(f"{kind.__name__} has other fields: {', '.join(sorted(value.keys() ^ types.keys()))}")
    return kind(**{name: _build(types[name], item) for name, item in value.items()})


@cache
def _types(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind) if each.init}
