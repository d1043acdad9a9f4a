-- Which settings roles bring: the login role's own, and those of the roles it can become that it may set for them.
select json_build_object(
  'role', r.rolname,
  'own', r.rolname = session_user,
  'name', split_part(setting.value, '=', 1),
  'value', substr(setting.value, strpos(setting.value, '=') + 1)
)::text
from pg_catalog.pg_db_role_setting s
join pg_catalog.pg_roles r on r.oid = s.setrole
cross join unnest(s.setconfig) with ordinality setting (value, position)
left join pg_catalog.pg_settings known on known.name = split_part(setting.value, '=', 1)
where s.setdatabase in (0, (select d.oid from pg_catalog.pg_database d where d.datname = current_database()))
  and (
    r.rolname = session_user
    or (
      exists (
        select
        from pg_catalog.pg_auth_members m
        join pg_catalog.pg_roles login on login.oid = m.member
        where m.roleid = r.oid
          and login.rolname = session_user
      )
      and (
        known.context = 'user'
        or pg_catalog.has_parameter_privilege(split_part(setting.value, '=', 1), 'set')
      )
    )
  )
-- What is set for this database comes last and wins.
order by r.rolname, s.setdatabase, setting.position
