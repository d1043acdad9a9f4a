-- The gateway $1 is here, in the run $2; its clients have had everything before $3.
insert into realtime.gateway (name, run, delivered)
values ($1, $2, $3::pg_lsn)
on conflict (name) do update
set run = excluded.run,
    started_at = now(),
    delivered = excluded.delivered
