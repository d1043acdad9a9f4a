-- Removes what nobody holds: what an earlier run of the node $1 left, and what nodes left whose slot is gone. An id
-- starts with its node's name, and a node's slot ends with it. Their clients are lost since now; those that had nothing
-- under way have had everything up to where their gateway noted that all had.
with nobodys as (
  delete from realtime.subscription
  where left(subscription_id::text, 8) = $1
    or not exists (
      select
      from pg_catalog.pg_replication_slots
      where slot_name = 'switchboard_realtime_' || left(subscription_id::text, 8)
    )
),
runs as (
  delete from realtime.gateway
  where name = $1
    or not exists (
      select
      from pg_catalog.pg_replication_slots
      where slot_name = 'switchboard_realtime_' || name
    )
)
update realtime.resumable as r
set lost_at = now(),
    commit = greatest(r.commit, g.delivered),
    change = case when g.delivered > r.commit then 0 else r.change end
from realtime.resumable as lost
left join realtime.gateway as g on g.name = left(lost.id::text, 8)
where r.id = lost.id
  and lost.lost_at is null
  and (
    left(lost.id::text, 8) = $1
    or not exists (
      select
      from pg_catalog.pg_replication_slots
      where slot_name = 'switchboard_realtime_' || left(lost.id::text, 8)
    )
  )
