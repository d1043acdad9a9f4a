-- Which relations and functions of a schema, the statement's last word, the current role may use.
select coalesce(json_agg(allowed.oid::int8), '[]')::text
from (
  select c.oid, n.nspname
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'v', 'm', 'f', 'p')
    and (
      pg_catalog.has_table_privilege(c.oid, 'select, insert, update, delete')
      or pg_catalog.has_any_column_privilege(c.oid, 'select, insert, update')
    )
  union all
  select p.oid, n.nspname
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  where pg_catalog.has_function_privilege(p.oid, 'execute')
) as allowed
where allowed.nspname =
