"""One task for each nudge. Ids and payloads never travel: every task looks for itself what there is to do."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from dispatcher.nudges import Task
from workers.app import app

if TYPE_CHECKING:
    from workers.runtime import Engine

#: Seconds that a worker counts as busy with one nudge; sending goes on beyond it.
PATIENCE = 10.0


@app.task(name=str(Task.CUT))  # type: ignore[untyped-decorator]
def cut() -> None:
    """Freeze the audience of every published blast that this worker may handle."""
    _run(lambda engine: engine.cut())


@app.task(name=str(Task.SEND))  # type: ignore[untyped-decorator]
def send() -> None:
    """Claim and send until nothing is left."""
    _run(lambda engine: engine.sender.send_next(PATIENCE))


@app.task(name=str(Task.TICK))  # type: ignore[untyped-decorator]
def tick() -> None:
    """One round of the reconciler, for the case that no worker's own clock runs."""
    _run(lambda engine: engine.reconcile())


def _run(work: Callable[[Engine], Coroutine[Any, Any, Any]]) -> None:
    from workers import runtime  # where beat imports the tasks, nothing of this is needed

    runtime.run(work)
