"""Let the readers of a closed story go, once its last mail can neither be on its way nor be tried again."""

from __future__ import annotations

import structlog

from dispatcher import db, policy

log = structlog.get_logger()

#: Readers in one transaction: a million at once would hold their rows for seconds.
SLICE = 5_000


async def release(database: db.Database) -> int:
    """End the subscriptions of every story that is closed and through, and say how many that were.

    Any number of workers may do it at once, and any of them may die: another goes on. Raises `DatabaseUnavailable`.
    """
    async with database.connection() as connection:
        found = await connection.all("stories_to_release", lifetime=policy.DEFAULT_EXPIRY)
    count = 0
    for story in found:
        if ended := await _release(database, story["id"]):
            log.info("subscriptions of a closed story ended", story=story["slug"], readers=ended)
        count += ended
    return count


async def _release(database: db.Database, story_id: int) -> int:
    after, count = 0, 0
    while True:
        async with database.transaction() as tx:
            if not await tx.execute("hold_closed_story", story_id=story_id):
                return count
            rows = await tx.tuples("some_followers", story_id=story_id, after=after, most=SLICE)
            if not rows:
                await tx.execute("finish_release", story_id=story_id)
                return count
            ids = [number for (number,) in rows]
            count += await tx.execute("release_readers", story_id=story_id, ids=ids)
            after = ids[-1]
