-- Which keys and foreign keys there are, in every schema; those that partitions inherit are their parents'.
select json_build_object(
  'name', k.conname,
  'kind', k.contype,
  'relation', k.conrelid::int8,
  'columns', k.conkey,
  'target', k.confrelid::int8,
  'target_columns', k.confkey
)::text
from pg_catalog.pg_constraint k
join pg_catalog.pg_namespace n on n.oid = k.connamespace
where k.contype in ('p', 'u', 'f')
  and k.conparentid = 0
  and k.conrelid <> 0
  and n.nspname not in ('pg_catalog', 'information_schema')
order by n.nspname, k.conrelid, k.conname
