-- Takes the channel of key $1 that a client joining with the number $2 had at another gateway, or at this one before it
-- was killed, if it was lost less than $3 seconds ago. Where a gateway was killed nobody noted that; that nobody reads
-- its slot tells.
delete from realtime.resumable
where id = any(array(
  select r.id
  from realtime.resumable as r
  where r.key = $1
    and r.last_ref < $2
    and case
      when r.lost_at is not null then r.lost_at > now() - make_interval(secs => $3)
      else not exists (
        select
        from pg_catalog.pg_replication_slots as s
        where s.slot_name = 'switchboard_realtime_' || left(r.id::text, 8)
          and s.active
      )
    end
  order by r.last_ref desc
  limit 1
  for update skip locked
))
returning (commit - '0/0')::bigint, change, abrupt or lost_at is null
