-- Which aggregates make a media type of a relation's rows: their result is a domain named like the type.
select json_build_object(
  'media', d.typname,
  'schema', n.nspname,
  'name', p.proname,
  'relation', nullif(argument.typrelid, 0)::int8
)::text
from pg_catalog.pg_aggregate g
join pg_catalog.pg_proc p on p.oid = g.aggfnoid
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
join pg_catalog.pg_type d on d.oid = p.prorettype
join pg_catalog.pg_type argument on argument.oid = p.proargtypes[0]
where d.typtype = 'd'
  and d.typname like '%/%'
  and p.pronargs = 1
  and (argument.typrelid <> 0 or argument.oid = 'anyelement'::pg_catalog.regtype)
  and n.nspname = any ($1::text[])
