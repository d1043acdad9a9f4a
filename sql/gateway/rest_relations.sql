-- Which relations of these schemas there are, and what a request needs to know of them and their columns.
select json_build_object(
  'oid', c.oid::int8,
  'schema', n.nspname,
  'name', c.relname,
  'view', c.relkind in ('v', 'm'),
  'description', pg_catalog.obj_description(c.oid, 'pg_class'),
  'insertable', c.relkind in ('r', 'p')
    or (c.relkind in ('v', 'f') and pg_catalog.pg_relation_is_updatable(c.oid, true) & 8 = 8),
  'updatable', c.relkind in ('r', 'p')
    or (c.relkind in ('v', 'f') and pg_catalog.pg_relation_is_updatable(c.oid, true) & 4 = 4),
  'deletable', c.relkind in ('r', 'p')
    or (c.relkind in ('v', 'f') and pg_catalog.pg_relation_is_updatable(c.oid, true) & 16 = 16),
  'query', (
    select r.ev_action::text
    from pg_catalog.pg_rewrite r
    where r.ev_class = c.oid
      and r.ev_type = '1'
  ),
  'columns', coalesce((
    select json_agg(
      json_build_object(
        'name', a.attname,
        'number', a.attnum,
        'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
        'base', pg_catalog.format_type(coalesce(nullif(base.oid, 0), a.atttypid), null),
        'domain', case when t.typtype = 'd' then t.oid::int8 end,
        'nullable', not (a.attnotnull or (t.typtype = 'd' and t.typnotnull)),
        'default', case
          -- By its dependency: pg_get_serial_sequence wants a right on the schema, and the login role has none.
          when a.attidentity <> '' then (
            select pg_catalog.format('nextval(%L::regclass)', pg_catalog.format('%I.%I', home.nspname, sequence.relname))
            from pg_catalog.pg_depend owned
            join pg_catalog.pg_class sequence on sequence.oid = owned.objid and sequence.relkind = 'S'
            join pg_catalog.pg_namespace home on home.oid = sequence.relnamespace
            where owned.classid = 'pg_catalog.pg_class'::regclass
              and owned.refclassid = 'pg_catalog.pg_class'::regclass
              and owned.refobjid = a.attrelid
              and owned.refobjsubid = a.attnum
              and owned.deptype = 'i'
          )
          when a.attgenerated <> '' then null
          else coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), t.typdefault)
        end,
        'max_length', information_schema._pg_char_max_length(
          coalesce(nullif(t.typbasetype, 0), a.atttypid),
          case when t.typtype = 'd' then t.typtypmod else a.atttypmod end
        ),
        'enum', (
          select json_agg(e.enumlabel order by e.enumsortorder)
          from pg_catalog.pg_enum e
          where e.enumtypid = coalesce(nullif(base.oid, 0), a.atttypid)
        ),
        'description', pg_catalog.col_description(c.oid, a.attnum)
      )
      order by a.attnum
    )
    from pg_catalog.pg_attribute a
    join pg_catalog.pg_type t on t.oid = a.atttypid
    left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
    left join lateral (
      -- The type below every domain.
      with recursive below as (
        select t.oid, t.typbasetype
        union all
        select next.oid, next.typbasetype
        from below
        join pg_catalog.pg_type next on next.oid = below.typbasetype
      )
      select below.oid from below where below.typbasetype = 0
    ) base on true
    where a.attrelid = c.oid
      and a.attnum > 0
      and not a.attisdropped
  ), '[]')
)::text
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = any ($1::text[])
  and c.relkind in ('r', 'v', 'm', 'f', 'p')
  and not c.relispartition
order by n.nspname, c.relname
