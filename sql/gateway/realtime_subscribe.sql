-- Shows a channel's subscriptions ($3, a list of them) by claims $2 under the id $1, and that it could be resumed: by
-- whom ($4), who has sent as many messages ($5), from where ($6, $7), or from where an earlier one has to go on. That is
-- one that a client joining with the number $8 had at another gateway, or at this one before it was started again, if it
-- was lost less than $9 seconds ago; its place is taken and told. Where a gateway was killed nobody noted the loss; that
-- nobody reads its slot tells.
with taken as (
  delete from realtime.resumable
  where id = any(array(
    select r.id
    from realtime.resumable as r
    where r.key = $4
      and r.last_ref < $8
      and case
        when r.lost_at is not null then r.lost_at > now() - make_interval(secs => $9)
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
  returning id, commit, change, lost_at
),
earlier as (
  select
    greatest(taken.commit, g.delivered) as commit,
    case when g.delivered > taken.commit then 0 else taken.change end as change
  from taken
  left join realtime.gateway as g
    on taken.lost_at is null
    and g.name = left(taken.id::text, 8)
),
resumable as (
  insert into realtime.resumable (id, key, last_ref, commit, change)
  select $1, $4, $5, coalesce(earlier.commit, $6::text::pg_lsn), coalesce(earlier.change, $7)
  from (select) as this
  left join earlier on true
),
subscribed as (
  insert into realtime.subscription (subscription_id, entity, filters, claims, action_filter, selected_columns)
  select
    $1,
    wanted.entity::oid::regclass,
    array(
      select row(filter ->> 'column', filter ->> 'op', filter ->> 'value', (filter ->> 'negate')::boolean)::realtime.user_defined_filter
      from jsonb_array_elements(wanted.filters) as filter
    ),
    $2::jsonb,
    wanted.event,
    wanted.columns
  from jsonb_to_recordset($3::jsonb) as wanted (entity bigint, filters jsonb, event text, columns text[])
)
select (earlier.commit - '0/0')::bigint, earlier.change
from earlier
