-- Which functions of these schemas can be called or describe a relationship, and how.
select json_build_object(
  'oid', p.oid::int8,
  'schema', n.nspname,
  'name', p.proname,
  'description', pg_catalog.obj_description(p.oid, 'pg_proc'),
  'volatility', p.provolatile,
  'set', p.proretset,
  'rows', p.prorows,
  'variadic', p.provariadic <> 0,
  'settings', p.proconfig,
  'void', p.prorettype = 'void'::pg_catalog.regtype,
  'record', p.prorettype = 'record'::pg_catalog.regtype and p.proallargtypes is null,
  'composite', p.prorettype = 'record'::pg_catalog.regtype
    or result.typtype = 'c'
    or exists (select from unnest(p.proargmodes) mode where mode in ('o', 'b', 't')),
  'returns', json_build_object('schema', result_schema.nspname, 'name', result.typname),
  'relation', result.typrelid::int8,
  'media', case
    when declared.typtype = 'd' and declared.typname like '%/%' then declared.typname
  end,
  'of', (
    -- The relation whose rows it takes, if that is all it takes.
    select argument.typrelid::int8
    from pg_catalog.pg_type argument
    where p.pronargs = 1
      and argument.oid = p.proargtypes[0]
      and argument.typtype = 'c'
  ),
  'arguments', coalesce((
    select json_agg(
      json_build_object(
        'name', coalesce(a.name, ''),
        'type', pg_catalog.format_type(a.type, null),
        -- An argument's type has no length, and without one character and bit would mean one.
        'cast', case a.type
          when 'pg_catalog.bpchar'::pg_catalog.regtype then 'character varying'
          when 'pg_catalog.bpchar[]'::pg_catalog.regtype then 'character varying[]'
          when 'pg_catalog.bit'::pg_catalog.regtype then 'bit varying'
          when 'pg_catalog.bit[]'::pg_catalog.regtype then 'bit varying[]'
          else pg_catalog.format_type(a.type, null)
        end,
        'required', a.position <= p.pronargs - p.pronargdefaults,
        'variadic', coalesce(a.mode = 'v', false)
      )
      order by a.position
    )
    from (
      select
        all_arguments.name,
        all_arguments.type,
        all_arguments.mode,
        row_number() over (order by all_arguments.position) as position
      from unnest(
        coalesce(p.proallargtypes, p.proargtypes::oid[]),
        p.proargnames,
        p.proargmodes
      ) with ordinality as all_arguments (type, name, mode, position)
      where coalesce(all_arguments.mode, 'i') in ('i', 'b', 'v')
        and all_arguments.type is not null
    ) a
  ), '[]')
)::text
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
join pg_catalog.pg_type declared on declared.oid = p.prorettype
join pg_catalog.pg_type result on result.oid = coalesce(nullif(declared.typbasetype, 0), declared.oid)
join pg_catalog.pg_namespace result_schema on result_schema.oid = result.typnamespace
where n.nspname = any ($1::text[])
  and p.prokind = 'f'
  and p.prorettype not in ('trigger'::pg_catalog.regtype, 'event_trigger'::pg_catalog.regtype)
order by n.nspname, p.proname, p.oid
