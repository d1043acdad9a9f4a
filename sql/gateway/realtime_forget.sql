-- Removes subscriptions that nobody holds: those an earlier run of this node ($1) left, and those of nodes whose
-- slot is gone. A subscription's id starts with its node, and a node's slot ends with it.
delete from realtime.subscription
where left(subscription_id::text, 8) = $1
  or not exists (
    select
    from pg_catalog.pg_replication_slots
    where slot_name = 'switchboard_realtime_' || left(subscription_id::text, 8)
  )
