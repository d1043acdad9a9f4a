-- A text that is another after nearly every change of what the API offers. It sums up the catalogs' own rows by the
-- transactions that wrote them. Built-in objects and those of sessions (temporary ones) play no part, nor do new files
-- of a relation, which `truncate` and `refresh materialized view` make: a relation is summed up by what it is.
with shown as (
  select oid
  from pg_catalog.pg_namespace
  where nspname !~ '^pg_'
    and nspname <> 'information_schema'
), relations as (
  select oid, relname, relnamespace, relkind
  from pg_catalog.pg_class
  where relnamespace in (select oid from shown)
    and relkind in ('r', 'p', 'v', 'm', 'f', 'c')
), parts as (
  select 'namespace' as part, xmin::text::int8 as written
  from pg_catalog.pg_namespace
  where oid in (select oid from shown)
  union all
  select 'class', oid::int8 + relnamespace::int8 + pg_catalog.hashtext(relname) + pg_catalog.ascii(relkind::text)
  from relations
  union all
  select 'attribute', xmin::text::int8
  from pg_catalog.pg_attribute
  where attrelid in (select oid from relations)
  union all
  select 'default', xmin::text::int8
  from pg_catalog.pg_attrdef
  where adrelid in (select oid from relations)
  union all
  select 'type', xmin::text::int8
  from pg_catalog.pg_type
  where typnamespace in (select oid from shown)
  union all
  select 'enum', xmin::text::int8
  from pg_catalog.pg_enum
  union all
  select 'constraint', xmin::text::int8
  from pg_catalog.pg_constraint
  where connamespace in (select oid from shown)
  union all
  select 'proc', xmin::text::int8
  from pg_catalog.pg_proc
  where pronamespace in (select oid from shown)
  union all
  select 'cast', xmin::text::int8
  from pg_catalog.pg_cast
  where oid >= 16384
  union all
  select 'rewrite', xmin::text::int8
  from pg_catalog.pg_rewrite
  where ev_class in (select oid from relations)
  union all
  select 'trigger', xmin::text::int8
  from pg_catalog.pg_trigger
  where not tgisinternal
    and tgrelid in (select oid from relations)
  union all
  select 'description', xmin::text::int8
  from pg_catalog.pg_description
  where objoid >= 16384
)
select pg_catalog.string_agg(part || ':' || rows || ':' || written, ' ' order by part)
from (
  select part, pg_catalog.count(*) as rows, pg_catalog.sum(written) as written
  from parts
  group by part
) as summed
