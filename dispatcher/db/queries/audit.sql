-- name: add_to_audit
-- A line of the log of the desk.
INSERT INTO audit (actor, action, subject, content_hash, detail)
VALUES (%(actor)s, %(action)s, %(subject)s, %(content_hash)s, %(detail)s::text::jsonb);

-- name: read_audit
-- Lines of the log before a number, the newest first; an empty filter lets all pass.
SELECT id, at, actor, action, subject, content_hash, detail FROM audit
WHERE id < %(before)s
  AND (%(actor)s::text = '' OR actor = %(actor)s::text)
  AND (%(action)s::text = '' OR action = %(action)s::text)
  AND (%(subject)s::text = '' OR subject = %(subject)s::text)
ORDER BY id DESC LIMIT %(limit)s;

-- name: audit_actions
-- Every kind of action that the newest ten thousand lines tell of.
SELECT DISTINCT action FROM (SELECT action FROM audit ORDER BY id DESC LIMIT 10000) AS newest ORDER BY action;
