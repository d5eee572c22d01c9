-- name: begin_import
-- A file of readers that somebody hands in for a story; no row if there is no such story, or it has ended.
INSERT INTO imports (story_id, name, size, by, confirmed, leaves_out)
SELECT id, %(name)s, %(size)s, %(by)s, %(confirmed)s, %(leaves_out)s FROM stories
WHERE slug = %(slug)s AND state = 'developing' RETURNING id;

-- name: forget_imports
-- Files that were handed in a month ago, and their bad lines.
DELETE FROM imports WHERE created_at < clock_timestamp() - interval '30 days';

-- name: see_import
-- How far a file has come. One that has come to its end stays there.
UPDATE imports SET state = %(state)s, bytes_read = %(bytes_read)s, counts = %(counts)s::jsonb, seen_at = clock_timestamp()
WHERE id = %(id)s AND finished_at IS NULL;

-- name: end_import
-- What became of a file.
UPDATE imports SET state = %(state)s, counts = %(counts)s::jsonb, reason = %(reason)s, bytes_read = %(bytes_read)s,
    seen_at = clock_timestamp(), finished_at = clock_timestamp()
WHERE id = %(id)s AND finished_at IS NULL;

-- name: keep_import_lines
-- The lines of a file that were not imported; a line that is known to be bad already is not told twice.
INSERT INTO import_lines (import_id, line, field, reason, detail)
SELECT %(id)s, * FROM unnest(%(lines)s::bigint[], %(fields)s::text[], %(reasons)s::text[], %(details)s::text[])
ON CONFLICT DO NOTHING;

-- name: find_import
-- A file that was handed in. `is_lost`: whoever worked on it has said nothing for so many seconds.
SELECT i.*, s.slug, s.headline, i.finished_at IS NULL AND i.seen_at < clock_timestamp() - make_interval(secs => %(silence)s)
           AS is_lost
FROM imports i JOIN stories s ON s.id = i.story_id WHERE i.id = %(id)s;

-- name: list_imports
-- The files that were handed in of late, the newest first.
SELECT i.*, s.slug, s.headline, i.finished_at IS NULL AND i.seen_at < clock_timestamp() - make_interval(secs => %(silence)s)
           AS is_lost
FROM imports i JOIN stories s ON s.id = i.story_id ORDER BY i.id DESC LIMIT %(limit)s;

-- name: import_lines_of
-- The lines of a file that were not imported, in its order.
SELECT line, field, reason, detail FROM import_lines WHERE import_id = %(id)s ORDER BY line LIMIT %(limit)s;

-- name: developing_stories
-- The stories that readers can be imported for, the newest first.
SELECT slug, headline FROM stories WHERE state = 'developing' ORDER BY id DESC LIMIT %(limit)s;
