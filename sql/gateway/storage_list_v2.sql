-- A page of keys below a prefix, in order of key or of time and key, after a cursor; with a delimiter, whatever lies
-- in one folder is one entry that ends with `/` and counts as older than every file.
with below as (
  select
    o.*,
    substr(o.name, 1, length($2) + nullif(position('/' in substr(o.name, length($2) + 1)), 0)) as folder
  from storage.objects o
  where o.bucket_id = $1
    and o.name collate "C" >= $2
    and o.name collate "C" < $2 || chr(1114111)
), entry as (
  select name, id, updated_at, created_at, last_accessed_at, metadata
  from below
  where not $3
    or folder is null
  union all
  select distinct folder, null::uuid, null::timestamptz, null::timestamptz, null::timestamptz, null::jsonb
  from below
  where $3
    and folder is not null
), keyed as (
  select
    *,
    coalesce((extract(epoch from case $4 when 'created_at' then created_at when 'updated_at' then updated_at end) * 1000000)::bigint, 0) as at
  from entry
)
select name, id, updated_at, created_at, last_accessed_at, metadata
from keyed
where $6::text is null
  or case
    when $5 then (at, name collate "C") < ($7::bigint, $6)
    else (at, name collate "C") > ($7::bigint, $6)
  end
order by
  case when not $5 then at end,
  case when not $5 then name end collate "C",
  at desc,
  name collate "C" desc
limit $8
