-- Shows a channel's subscriptions ($3, a list of them) by claims $2 under the id $1, and that it could be resumed: by
-- whom ($4), who has sent as many messages ($5), from where ($6, $7).
with resumable as (
  insert into realtime.resumable (id, key, last_ref, commit, change)
  values ($1, $4, $5, $6::text::pg_lsn, $7)
)
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
