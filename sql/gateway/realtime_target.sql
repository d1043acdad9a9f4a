-- What a subscription finds: may the role $1 be taken, which published tables are meant ($2 schema, $3 table; null
-- means any), and the columns where it is exactly one table.
with target as (
  select class.oid
  from pg_catalog.pg_publication_tables as published
  join pg_catalog.pg_namespace as namespace on namespace.nspname = published.schemaname
  join pg_catalog.pg_class as class on class.relnamespace = namespace.oid and class.relname = published.tablename
  where published.pubname = 'supabase_realtime'
    and ($2::text is null or published.schemaname = $2)
    and ($3::text is null or published.tablename = $3)
),
definition as (
  select
    attribute.attname::text as name,
    attribute.atttypid as type,
    coalesce(
      (
        select pg_catalog.has_column_privilege(role.oid, attribute.attrelid, attribute.attnum, 'select')
        from pg_catalog.pg_roles as role
        where role.rolname = $1
      ),
      false
    ) as selectable,
    attribute.attnum
  from target
  join pg_catalog.pg_attribute as attribute on attribute.attrelid = target.oid
  where $2 is not null
    and $3 is not null
    and attribute.attnum > 0
    and not attribute.attisdropped
)
select
  exists (
    select
    from pg_catalog.pg_roles as role
    where role.rolname = $1
      and pg_catalog.pg_has_role('authenticator', role.oid, 'member')
  ) as role_exists,
  array(select oid from target) as tables,
  array(select name from definition order by attnum) as column_names,
  array(select type from definition order by attnum) as column_types,
  array(select selectable from definition order by attnum) as column_selectable
