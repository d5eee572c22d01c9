-- name: listen
-- Hear what all workers are told: what has become of blasts, who left, which relay is back.
LISTEN dispatcher;

-- name: notice_silence
-- Have the server notice within half a minute that this side is gone: what it held would be held for hours otherwise.
SELECT set_config('idle_in_transaction_session_timeout', '30s', false), set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false),
       set_config('tcp_user_timeout', '25000', false);

-- name: claim_probe
-- Take the next probe of a relay; no row if another worker made one not long ago.
INSERT INTO relays (name, probe_at) VALUES (%(relay)s, clock_timestamp() + make_interval(secs => %(every)s))
ON CONFLICT (name) DO UPDATE SET probe_at = excluded.probe_at WHERE relays.probe_at <= clock_timestamp()
RETURNING name;

-- name: tell_relay_back
-- Tell every worker that a relay answers again.
SELECT pg_notify('dispatcher', 'relay:' || %(relay)s::text);

-- name: try_answering
-- Until the transaction ends, be the only one that answers asks; false if another is. Who says nothing for so many
-- milliseconds is so no more: all who ask wait for this one.
SELECT pg_try_advisory_xact_lock(%(lock)s),
       set_config('idle_in_transaction_session_timeout', %(milliseconds)s::integer::text, true);

-- name: peers
-- How many workers live, which of them this one is, and whose turn it is where a limit is too small for all.
SELECT count(*)::integer AS peers, (count(*) FILTER (WHERE objid::bigint < %(worker)s))::integer AS rank,
       (extract(epoch FROM clock_timestamp())::bigint / 10 %% 1000)::integer AS turn
FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 2 AND classid = %(class)s::integer AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database());

-- name: report_relay
-- How this worker finds a relay.
INSERT INTO relay_reports (worker, relay, host, pid, circuit, reason, since, lanes, busy, overdue, reported_at)
VALUES (%(worker)s, %(relay)s, %(host)s, %(pid)s, %(circuit)s, %(reason)s, %(since)s, %(lanes)s, %(busy)s,
        %(overdue)s, clock_timestamp())
ON CONFLICT (worker, relay) DO UPDATE
SET circuit = excluded.circuit, reason = excluded.reason, since = excluded.since, lanes = excluded.lanes,
    busy = excluded.busy, overdue = excluded.overdue, reported_at = excluded.reported_at;
