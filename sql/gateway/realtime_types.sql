-- The given types and all that they are made of, for rendering their values as JSON.
with recursive needed (oid) as (
  select given.oid
  from unnest($1::oid[]) as given (oid)
  union
  select part.oid
  from needed
  join pg_catalog.pg_type as whole on whole.oid = needed.oid
  cross join lateral (
    select whole.typbasetype
    union all
    select whole.typelem
    union all
    select attribute.atttypid
    from pg_catalog.pg_attribute as attribute
    where whole.typtype = 'c'
      and attribute.attrelid = whole.typrelid
      and attribute.attnum > 0
      and not attribute.attisdropped
  ) as part (oid)
  where part.oid <> 0
)
select
  type.oid,
  type.typname::text as name,
  pg_catalog.quote_ident(namespace.nspname) || '.' || pg_catalog.quote_ident(type.typname) as sql_name,
  type.typtype::text as kind,
  type.typbasetype as base,
  case
    when type.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
    then type.typelem
    else 0::oid
  end as element,
  coalesce(element.typdelim, ',')::text as delimiter,
  coalesce(
    (
      select array_agg(attribute.attname::text order by attribute.attnum)
      from pg_catalog.pg_attribute as attribute
      where type.typtype = 'c'
        and attribute.attrelid = type.typrelid
        and attribute.attnum > 0
        and not attribute.attisdropped
    ),
    '{}'
  ) as field_names,
  coalesce(
    (
      select array_agg(attribute.atttypid order by attribute.attnum)
      from pg_catalog.pg_attribute as attribute
      where type.typtype = 'c'
        and attribute.attrelid = type.typrelid
        and attribute.attnum > 0
        and not attribute.attisdropped
    ),
    '{}'
  ) as field_types
from needed
join pg_catalog.pg_type as type on type.oid = needed.oid
join pg_catalog.pg_namespace as namespace on namespace.oid = type.typnamespace
left join pg_catalog.pg_type as element on element.oid = type.typelem
