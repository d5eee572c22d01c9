-- name: server_version
-- Which PostgreSQL this is, as a number: 180001 is 18.1.
SELECT current_setting('server_version_num')::integer;

-- name: workers_alive
-- How many worker processes hold their number's lock, and so are alive.
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: stalled_work
-- For how many seconds the oldest work has waited that a worker could take now, and how many batches are being sent.
SELECT coalesce(extract(epoch FROM clock_timestamp() - least(
           (SELECT min(created_at) FROM blasts WHERE state = 'cutting'),
           (SELECT min(greatest(b.created_at, b.not_before)) FROM batches b JOIN blasts ON blasts.id = b.blast_id
            WHERE b.state = 'waiting' AND b.not_before <= clock_timestamp() AND blasts.state = 'sending')
       )), 0)::float8 AS seconds,
       (SELECT count(*) FROM batches WHERE state = 'leased' AND lease_until > clock_timestamp()) AS being_sent;

-- name: condition
-- What the desk sees of the parts: the server, live workers, the monitor's last round, letters that cannot be made of
-- updates that are going out, and mails that one person waits for, with the seconds that the first of them has waited.
SELECT clock_timestamp() AS now, current_setting('server_version_num')::integer AS version,
       current_setting('transaction_read_only') = 'on' AS read_only,
       (SELECT count(*) FROM pg_locks
        WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND granted
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) AS alive,
       (SELECT extract(epoch FROM clock_timestamp() - at)::float8 FROM moments WHERE name = 'round') AS round_seconds,
       letters.count AS letters, letters.reason AS letter,
       (SELECT count(*) FROM asks) + (SELECT count(*) FROM notices WHERE next_at IS NOT NULL AND state IS NULL) AS mails,
       greatest(0, extract(epoch FROM clock_timestamp() - least(
           (SELECT min(asked_at) FROM asks),
           (SELECT min(created_at) FROM notices WHERE next_at IS NOT NULL AND state IS NULL))))::float8 AS mails_seconds
FROM (SELECT count(*) AS count, (array_agg(f.reason ORDER BY f.failed_at DESC))[1] AS reason
      FROM blasts b JOIN letter_failures f ON f.blast_id = b.id
      WHERE b.state IN ('cutting', 'sending', 'paused')) AS letters;

-- name: latest_incidents
-- What is not well just now, and the last that are over, the newest first.
(SELECT kind, text, opened_at, closed_at FROM incidents WHERE closed_at IS NULL)
UNION ALL
(SELECT kind, text, opened_at, closed_at FROM incidents WHERE closed_at IS NOT NULL ORDER BY id DESC LIMIT %(past)s)
ORDER BY opened_at DESC;
