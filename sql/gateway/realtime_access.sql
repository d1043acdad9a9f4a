-- What the role $2 may read of the table $1, and by which rules: the policies for its reads, and whether those look
-- at columns other than $3. Run with an empty search_path, so that rules name everything with its schema.
select
  array(
    select attribute.attname::text
    from pg_catalog.pg_attribute as attribute
    where attribute.attrelid = class.oid
      and attribute.attnum > 0
      and not attribute.attisdropped
      and has_schema_privilege(role.oid, class.relnamespace, 'usage')
      and has_column_privilege(role.oid, class.oid, attribute.attnum, 'select')
  ) as columns,
  (
    class.relrowsecurity
    and not role.rolsuper
    and not role.rolbypassrls
    and (class.relforcerowsecurity or not pg_has_role(role.oid, class.relowner, 'usage'))
  ) as restricted,
  coalesce(policies.permissive, '{}') as permissive,
  coalesce(policies.restrictive, '{}') as restrictive,
  coalesce(policies.needs_more, false) as needs_more
from pg_catalog.pg_class as class
cross join pg_catalog.pg_roles as role
left join lateral (
  select
    array_agg(coalesce(pg_get_expr(policy.polqual, policy.polrelid), 'true'))
      filter (where policy.polpermissive) as permissive,
    array_agg(coalesce(pg_get_expr(policy.polqual, policy.polrelid), 'true'))
      filter (where not policy.polpermissive) as restrictive,
    bool_or(
      -- A reference to the row as a whole leaves no trace among the dependencies.
      policy.polqual::text ~ ':varattno 0 '
      or exists (
        select
        from pg_catalog.pg_depend as depend
        join pg_catalog.pg_attribute as attribute
          on attribute.attrelid = depend.refobjid and attribute.attnum = depend.refobjsubid
        where depend.classid = 'pg_catalog.pg_policy'::regclass
          and depend.objid = policy.oid
          and depend.refclassid = 'pg_catalog.pg_class'::regclass
          and depend.refobjid = class.oid
          and attribute.attname <> all ($3::text[])
      )
    ) as needs_more
  from pg_catalog.pg_policy as policy
  where policy.polrelid = class.oid
    and policy.polcmd in ('r', '*')
    and exists (
      select
      from unnest(policy.polroles) as given (oid)
      where given.oid = 0
        or pg_has_role(role.oid, given.oid, 'usage')
    )
) as policies on true
where class.oid = $1
  and role.rolname = $2
