-- name: read_progress
-- What became of the readers of these blasts so far, by state and relay; acceptances also by the slot of time after
-- publishing in which they were written down.
SELECT blast_id, CASE WHEN state = 'accepted' THEN after_ms END AS after_ms, state::text AS state, relay,
       sum(count)::bigint AS count, min(first_at) AS first_at, max(last_at) AS last_at
FROM progress WHERE blast_id = ANY (%(blast_ids)s::bigint[])
GROUP BY 1, 2, 3, 4 HAVING sum(count) <> 0
ORDER BY 1, 2;

-- name: count_progress
-- How many readers of each of these blasts are in each state.
SELECT blast_id, state::text AS state, sum(count)::bigint AS count
FROM progress WHERE blast_id = ANY (%(blast_ids)s::bigint[])
GROUP BY blast_id, state HAVING sum(count) <> 0;
