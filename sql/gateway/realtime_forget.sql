-- Removes the subscriptions that nobody holds: those an earlier run of this node ($1) left, and those of nodes whose
-- slot is gone. A subscription's id starts with its node, and a node's slot ends with it. Their clients are lost since
-- now, and where they were then is only known roughly.
with nobodys as (
  delete from realtime.subscription
  where left(subscription_id::text, 8) = $1
    or not exists (
      select
      from pg_catalog.pg_replication_slots
      where slot_name = 'switchboard_realtime_' || left(subscription_id::text, 8)
    )
)
update realtime.resumable as r
set lost_at = now(),
    abrupt = true
where r.lost_at is null
  and (
    left(r.id::text, 8) = $1
    or not exists (
      select
      from pg_catalog.pg_replication_slots
      where slot_name = 'switchboard_realtime_' || left(r.id::text, 8)
    )
  )
