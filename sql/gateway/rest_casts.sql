-- Which domains represent themselves to clients: implicit casts from them to json, and to them from json or text.
select json_build_object(
  'domain', d.oid::int8,
  'kind', case
    when c.castsource = d.oid then 'format'
    when c.castsource in ('json'::pg_catalog.regtype, 'jsonb'::pg_catalog.regtype) then 'parse'
    else 'filter'
  end,
  'function', json_build_object('schema', n.nspname, 'name', p.proname)
)::text
from pg_catalog.pg_cast c
join pg_catalog.pg_proc p on p.oid = c.castfunc
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
join pg_catalog.pg_type d on d.typtype = 'd' and d.oid in (c.castsource, c.casttarget)
where c.castcontext = 'i'
  and case
    when c.castsource = d.oid then c.casttarget = 'json'::pg_catalog.regtype
    else c.castsource in ('json'::pg_catalog.regtype, 'text'::pg_catalog.regtype)
  end
