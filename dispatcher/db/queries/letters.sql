-- name: find_letter
-- A letter that was compiled before, by this worker or another; or how often that has failed, why, and whether the
-- last time was less than `rest` seconds ago.
SELECT l.letter, coalesce(f.failures, 0) AS failures, f.reason,
       coalesce(f.failed_at > clock_timestamp() - make_interval(secs => %(rest)s), false) AS rests
FROM (VALUES (%(blast_id)s::bigint, %(variant)s::text)) AS asked (blast_id, variant)
LEFT JOIN letters l USING (blast_id, variant)
LEFT JOIN letter_failures f USING (blast_id, variant);

-- name: keep_letter
-- Keep a compiled letter, whatever went wrong before. If another worker was faster its bytes are the ones that count.
WITH forgiven AS (
    DELETE FROM letter_failures WHERE blast_id = %(blast_id)s AND variant = %(variant)s
)
INSERT INTO letters (blast_id, variant, letter) VALUES (%(blast_id)s, %(variant)s, %(letter)s)
ON CONFLICT (blast_id, variant) DO NOTHING;

-- name: note_letter_failure
-- A letter could not be compiled. Workers that fail at the same time count as one.
INSERT INTO letter_failures AS f (blast_id, variant, failures, reason, failed_at)
VALUES (%(blast_id)s, %(variant)s, 1, %(reason)s, clock_timestamp())
ON CONFLICT (blast_id, variant) DO UPDATE
SET reason = excluded.reason,
    failures = CASE WHEN f.failed_at > clock_timestamp() - make_interval(secs => %(rest)s)
                    THEN f.failures ELSE f.failures + 1 END,
    failed_at = CASE WHEN f.failed_at > clock_timestamp() - make_interval(secs => %(rest)s)
                     THEN f.failed_at ELSE clock_timestamp() END
RETURNING failures;

-- name: forget_letter_failures
-- Letters of a blast that could not be compiled may be tried again.
DELETE FROM letter_failures WHERE blast_id = %(blast_id)s;
