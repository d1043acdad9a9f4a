-- The gateways on this database: those that live hold the advisory lock of their name (class $1), and whoever was here
-- has a slot.
select
  (coalesce(living.number, slots.number))::bigint as number,
  living.number is not null as living,
  coalesce(slots.active, false) as reading,
  slots.read
from (
  select objid::bigint as number
  from pg_catalog.pg_locks
  where locktype = 'advisory'
    and classid = $1::oid
    and objsubid = 2
    and mode = 'ExclusiveLock'
    and granted
    and database = (select oid from pg_catalog.pg_database where datname = current_database())
) as living
full join (
  select
    ('x' || right(slot_name, 8))::bit(32)::bigint as number,
    active,
    (confirmed_flush_lsn - '0/0')::bigint as read
  from pg_catalog.pg_replication_slots
  where slot_name ~ '^switchboard_realtime_[0-9a-f]{8}$'
    and database = current_database()
) as slots using (number)
