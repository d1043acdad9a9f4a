-- Names the state of what no event trigger tells: roles, their memberships, owners (`reassign owned`), the event
-- triggers themselves; and of the publications, which decide what is streamed at all.
select
  pg_current_snapshot()::text,
  md5(concat_ws(
    ' ',
    (select jsonb_agg(to_jsonb(role) order by role.oid) from pg_catalog.pg_roles as role),
    (select jsonb_agg(to_jsonb(member) order by member.roleid, member.member) from pg_catalog.pg_auth_members as member),
    (
      select string_agg(class.oid::text || ' ' || class.relowner::text, ',' order by class.oid)
      from pg_catalog.pg_class as class
      where class.relkind = 'r'
        and class.relrowsecurity
    ),
    (
      select string_agg(function.oid::text || ' ' || function.proowner::text, ',' order by function.oid)
      from pg_catalog.pg_proc as function
      where function.prosecdef
        and function.prosqlbody is not null
    ),
    (select jsonb_agg(to_jsonb(trigger) order by trigger.oid) from pg_catalog.pg_event_trigger as trigger),
    (select jsonb_agg(to_jsonb(publication) order by publication.oid) from pg_catalog.pg_publication as publication),
    (select string_agg(link.oid::text || ' ' || link.xmin::text, ',' order by link.oid) from pg_catalog.pg_publication_rel as link)
  ))
