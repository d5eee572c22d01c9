-- name: now
-- This moment on the one clock that decides: hosts may be wrong by minutes, each by others.
SELECT clock_timestamp() AS now;
