-- name: begin_draft
-- A new draft of a story. `key`: the same one makes no second draft; a new one where it is null.
INSERT INTO drafts (story_id, kind, importance, headline, summary, body, corrects, replaces, expires_in, successor_id,
                    author, last_editor, handed_in_by, handed_in_hash, key, state, submitted_by, submitted_at)
SELECT %(story_id)s, %(kind)s::update_kind, %(importance)s::importance, %(headline)s, %(summary)s, %(body)s,
       %(corrects)s::bigint, %(replaces)s, %(expires_in)s::interval, %(successor_id)s::bigint,
       %(author)s::bigint, %(author)s::bigint, %(handed_in_by)s::text, %(handed_in_hash)s::bytea,
       coalesce(%(key)s::uuid, gen_random_uuid()), given.state,
       CASE WHEN given.state = 'submitted' THEN %(author)s::bigint END,
       CASE WHEN given.state = 'submitted' THEN clock_timestamp() END
FROM (SELECT %(state)s::draft_state AS state) AS given
ON CONFLICT (key) DO NOTHING
RETURNING id;

-- name: find_draft
-- One draft by its number, with the numbers and slugs of what it speaks of.
SELECT d.*, c.seq AS corrects_seq, u.seq AS update_seq, n.slug AS successor
FROM drafts d
LEFT JOIN updates c ON c.id = d.corrects LEFT JOIN updates u ON u.id = d.update_id
LEFT JOIN stories n ON n.id = d.successor_id
WHERE d.id = %(draft_id)s;

-- name: lock_draft
-- The same, held until the transaction ends.
SELECT d.*, c.seq AS corrects_seq, u.seq AS update_seq, n.slug AS successor
FROM drafts d
LEFT JOIN updates c ON c.id = d.corrects LEFT JOIN updates u ON u.id = d.update_id
LEFT JOIN stories n ON n.id = d.successor_id
WHERE d.id = %(draft_id)s FOR UPDATE OF d;

-- name: find_draft_by_key
-- The draft that was handed in under a key, and what was handed in.
SELECT id, handed_in_hash FROM drafts WHERE key = %(key)s::uuid;

-- name: list_drafts
-- What is being written, of one story or of all, the last touched first.
SELECT d.*, c.seq AS corrects_seq, u.seq AS update_seq, n.slug AS successor
FROM drafts d
LEFT JOIN updates c ON c.id = d.corrects LEFT JOIN updates u ON u.id = d.update_id
LEFT JOIN stories n ON n.id = d.successor_id
WHERE d.state <> 'published' AND (%(story_id)s::bigint IS NULL OR d.story_id = %(story_id)s::bigint)
ORDER BY d.updated_at DESC, d.id DESC LIMIT %(limit)s;

-- name: stories_of_drafts
-- Stories by their numbers.
SELECT s.*, n.slug AS successor FROM stories s LEFT JOIN stories n ON n.id = s.successor_id
WHERE s.id = ANY (%(ids)s::bigint[]);

-- name: people_of_drafts
-- People by their numbers; nothing of what opens doors, for workers ask this too, who may not see that.
SELECT p.id, p.email, p.name, p.role, p.created_at, p.signed_in_at, p.ended_at, NULL::bytea AS totp_sealed,
       0 AS recovery_left
FROM people p WHERE p.id = ANY (%(ids)s::bigint[]);

-- name: presences_of_drafts
-- Who has these drafts open: who was seen there within so many seconds.
SELECT o.draft_id, o.seen_at, p.id, p.name, p.email
FROM presences o JOIN people p ON p.id = o.person_id
WHERE o.draft_id = ANY (%(ids)s::bigint[]) AND o.seen_at > clock_timestamp() - make_interval(secs => %(seconds)s)
ORDER BY o.seen_at DESC, p.id;

-- name: see_presence
-- Somebody has a draft open.
INSERT INTO presences (draft_id, person_id)
SELECT id, %(person_id)s FROM drafts WHERE id = %(draft_id)s
ON CONFLICT (draft_id, person_id) DO UPDATE SET seen_at = clock_timestamp();

-- name: save_draft
-- Another text for a draft: whatever it was approved and scheduled as is void, and that it missed its time is seen to. One
-- that waits for approval goes on waiting.
UPDATE drafts SET kind = %(kind)s::update_kind, importance = %(importance)s::importance, headline = %(headline)s,
    summary = %(summary)s, body = %(body)s, corrects = %(corrects)s::bigint, replaces = %(replaces)s,
    expires_in = %(expires_in)s::interval, successor_id = %(successor_id)s::bigint,
    version = version + 1, last_editor = %(by)s, updated_at = clock_timestamp(),
    state = CASE WHEN state = 'submitted' THEN state ELSE 'draft' END, missed_at = NULL,
    approved_by = NULL, approved_at = NULL, approved_hash = NULL, send_at = NULL, send_local = NULL, scheduled_by = NULL
WHERE id = %(draft_id)s;

-- name: keep_revision
-- What a draft says in this version.
INSERT INTO revisions (draft_id, version, text, editor)
VALUES (%(draft_id)s, %(version)s, %(text)s::text::jsonb, %(editor)s::bigint);

-- name: forget_revisions
-- Versions of a draft that are older than the last so many.
DELETE FROM revisions WHERE draft_id = %(draft_id)s AND version <= %(version)s::integer - %(keep)s::integer;

-- name: find_revision
-- What a draft said in one version.
SELECT r.text, r.at FROM revisions r WHERE r.draft_id = %(draft_id)s AND r.version = %(version)s;

-- name: forget_presences
-- Nobody writes a draft any more.
DELETE FROM presences WHERE draft_id = %(draft_id)s;

-- name: discard_draft
-- Remove a draft with its versions.
DELETE FROM drafts WHERE id = %(draft_id)s;

-- name: submit_draft
-- Somebody asks for a second pair of eyes.
UPDATE drafts SET state = CASE WHEN state = 'scheduled' THEN state ELSE 'submitted' END, submitted_by = %(by)s,
    submitted_at = clock_timestamp(), reason = NULL, missed_at = NULL, updated_at = clock_timestamp()
WHERE id = %(draft_id)s;

-- name: approve_draft
-- A second person stands by exactly this. What is scheduled stays so.
UPDATE drafts SET state = CASE WHEN state = 'scheduled' THEN state ELSE 'approved' END, approved_by = %(by)s,
    approved_at = clock_timestamp(), approved_hash = %(hash)s, reason = NULL, missed_at = NULL, updated_at = clock_timestamp()
WHERE id = %(draft_id)s;

-- name: hand_back_draft
-- Back to whoever writes it, with a reason; it is neither approved nor scheduled any more. `missed_at`: when it was to go out,
-- if that could not be.
UPDATE drafts SET state = %(state)s::draft_state, reason = %(reason)s, missed_at = %(missed_at)s, updated_at = clock_timestamp(),
    approved_by = NULL, approved_at = NULL, approved_hash = NULL, send_at = NULL, send_local = NULL, scheduled_by = NULL
WHERE id = %(draft_id)s;

-- name: override_approval
-- A lead does not wait for a second person.
UPDATE drafts SET is_override = true, reason = %(reason)s WHERE id = %(draft_id)s;

-- name: schedule_draft
-- It goes out at this moment. Whoever approved it approved another time.
UPDATE drafts SET state = 'scheduled', send_at = %(send_at)s, send_local = %(send_local)s::timestamp,
    scheduled_by = %(by)s, approved_by = NULL, approved_at = NULL, approved_hash = NULL, reason = NULL, missed_at = NULL,
    submitted_by = CASE WHEN %(waits)s THEN %(by)s ELSE submitted_by END,
    submitted_at = CASE WHEN %(waits)s THEN clock_timestamp() ELSE submitted_at END, updated_at = clock_timestamp()
WHERE id = %(draft_id)s;

-- name: zones_of_followers
-- The timezones that the readers of a story live in.
SELECT DISTINCT r.timezone FROM subscriptions f JOIN subscribers r ON r.id = f.subscriber_id
WHERE f.story_id = %(story_id)s AND f.confirmed_at IS NOT NULL AND f.ended_at IS NULL;

-- name: take_due_draft
-- One draft whose time has come, held until the transaction ends; one that another process holds is that one's.
SELECT d.id FROM drafts d WHERE d.send_at <= clock_timestamp()
ORDER BY d.send_at, d.id LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: mark_published
-- The draft is an update now.
UPDATE drafts SET state = 'published', update_id = %(update_id)s, send_at = NULL, scheduled_by = NULL, missed_at = NULL,
    updated_at = clock_timestamp()
WHERE id = %(draft_id)s;

-- name: list_leads
-- Every lead who works here.
SELECT email FROM people WHERE role = 'lead' AND ended_at IS NULL ORDER BY id;

-- name: person_of_token
-- Who made an API token, if that is somebody of the desk.
SELECT p.id FROM api_tokens t JOIN people p ON p.email = t.created_by AND p.ended_at IS NULL
WHERE t.name = %(name)s AND t.revoked_at IS NULL;
