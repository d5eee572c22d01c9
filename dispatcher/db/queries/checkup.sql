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
