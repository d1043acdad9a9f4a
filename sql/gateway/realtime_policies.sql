-- The catalog as far as it says what select policies read: one document of one snapshot. Interesting roles are those
-- that callers become, and the owners of functions that run as their owner.
with interesting as (
  select role.oid, role.rolname, role.rolsuper, role.rolbypassrls, pg_has_role('authenticator', role.oid, 'member') as api
  from pg_catalog.pg_roles as role
  where pg_has_role('authenticator', role.oid, 'member')
    or role.oid in (select proowner from pg_catalog.pg_proc where prosecdef and prosqlbody is not null)
),
-- whose rows all speak for themselves: no parent, no partition, nothing temporary or unlogged
ordinary as (
  select class.oid, class.relname, class.relnamespace, class.relowner, class.relreplident, class.relrowsecurity,
    class.relforcerowsecurity,
    (
      select index.indkey::int2[]
      from pg_catalog.pg_index as index
      where index.indrelid = class.oid
        and index.indisvalid
        and index.indimmediate
        and case class.relreplident
          when 'd' then index.indisprimary
          when 'i' then index.indisreplident
        end
    ) as identity
  from pg_catalog.pg_class as class
  join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
  where class.relkind = 'r'
    and class.relpersistence = 'p'
    and not class.relispartition
    and class.oid >= 16384
    and namespace.nspname <> 'information_schema'
    and not exists (
      select
      from pg_catalog.pg_inherits
      where inhparent = class.oid
        or inhrelid = class.oid
    )
),
published as (
  select
    publication.pubname,
    class.oid,
    publication.pubinsert as insert,
    publication.pubupdate as update,
    publication.pubdelete as delete,
    coalesce(link.prattrs is not null or link.prqual is not null, false) as partly
  from pg_catalog.pg_publication_tables as published
  join pg_catalog.pg_publication as publication on publication.pubname = published.pubname
  join pg_catalog.pg_namespace as namespace on namespace.nspname = published.schemaname
  join pg_catalog.pg_class as class on class.relnamespace = namespace.oid and class.relname = published.tablename
  left join pg_catalog.pg_publication_rel as link on link.prpubid = publication.oid and link.prrelid = class.oid
  where published.pubname in ('supabase_realtime', 'switchboard_policies')
)
select
  pg_current_snapshot()::text,
  jsonb_build_object(
    'digest', (select md5(string_agg(policy.oid::text || ' ' || policy.xmin::text, ',' order by policy.oid)) from pg_catalog.pg_policy as policy),
    -- whether every change of what policies read, and of definitions, is told in the stream
    'told', (
      select
        current_setting('server_version_num')::int >= 150000
      and exists (
        select
        from pg_catalog.pg_publication
        where pubname = 'switchboard_policies'
          and pubinsert
          and pubupdate
          and pubdelete
          and pubtruncate
          and not puballtables
      )
      and (
        select count(*) = 2
        from pg_catalog.pg_event_trigger
        where evtname in ('switchboard_ddl', 'switchboard_drop')
          and evtenabled = 'A'
          and evttags is null
          and evtfoid = to_regproc('realtime.tell_ddl')
      )
    ),
    -- what clients subscribe to
    'published', coalesce(
      (
        select jsonb_agg(jsonb_build_object('oid', oid::bigint, 'insert', insert, 'update', update, 'delete', delete))
        from published
        where pubname = 'supabase_realtime'
      ),
      '[]'
    ),
    'roles', (
      select jsonb_agg(jsonb_build_object('oid', oid::bigint, 'name', rolname))
      from interesting
      where api
    ),
    'relations', coalesce(
      (
        select jsonb_agg(jsonb_build_object(
          'oid', class.oid::bigint,
          'schema', namespace.nspname,
          'name', class.relname,
          -- the roles whose reads go by policies
          'restricted', array(
            select role.oid::bigint
            from interesting as role
            where class.relrowsecurity
              and not role.rolsuper
              and not role.rolbypassrls
              and (class.relforcerowsecurity or not pg_has_role(role.oid, class.relowner, 'usage'))
          ),
          'columns', (
            select jsonb_agg(jsonb_build_object(
              'number', attribute.attnum,
              'name', attribute.attname,
              'streamed', attribute.attgenerated = '',
              'not_null', attribute.attnotnull,
              'identity', class.relreplident = 'f' or coalesce(attribute.attnum = any (class.identity), false)
            ))
            from pg_catalog.pg_attribute as attribute
            where attribute.attrelid = class.oid
              and attribute.attnum > 0
              and not attribute.attisdropped
          ),
          -- Added to another publication it must neither hinder its writers nor show clients more of itself.
          'watchable', (class.relreplident = 'f' or class.identity is not null)
            and namespace.nspname <> 'realtime'
            and not exists (select from published where published.oid = class.oid and pubname = 'supabase_realtime' and partly),
          'watched', exists (select from published where published.oid = class.oid and pubname = 'switchboard_policies' and not partly),
          'values_readable', coalesce(
            (
              select bool_and(
                (role.rolbypassrls or role.rolsuper)
                and pg_has_role('authenticator', role.oid, 'member')
                and has_schema_privilege(role.oid, namespace.oid, 'usage')
                and has_table_privilege(role.oid, class.oid, 'select')
              )
              from pg_catalog.pg_roles as role
              where role.rolname = 'service_role'
            ),
            false
          )
        ))
        from ordinary as class
        join pg_catalog.pg_namespace as namespace on namespace.oid = class.relnamespace
      ),
      '[]'
    ),
    -- what each adds to a select: `using`, and for whom
    'policies', coalesce(
      (
        select jsonb_agg(jsonb_build_object(
          'relation', policy.polrelid::bigint,
          'using', policy.polqual::text,
          'roles', array(
            select role.oid::bigint
            from interesting as role
            where exists (
              select
              from unnest(policy.polroles) as given (oid)
              where given.oid = 0
                or pg_has_role(role.oid, given.oid, 'usage')
            )
          )
        ))
        from pg_catalog.pg_policy as policy
        where policy.polcmd in ('r', '*')
      ),
      '[]'
    ),
    -- functions of C whose answers depend on their arguments alone; a default is an argument that no tree shows
    'immutable', (
      select jsonb_agg(function.oid::bigint)
      from pg_catalog.pg_proc as function
      join pg_catalog.pg_language as language on language.oid = function.prolang
      where function.provolatile = 'i'
        and language.lanname in ('internal', 'c')
        and (function.pronargdefaults = 0 or function.pronamespace = 'pg_catalog'::regnamespace)
    ),
    -- types whose values are read by such a function
    'types', (
      select jsonb_agg(type.oid::bigint)
      from pg_catalog.pg_type as type
      join pg_catalog.pg_proc as function on function.oid = type.typinput
      join pg_catalog.pg_language as language on language.oid = function.prolang
      where type.typtype = 'b'
        and function.provolatile = 'i'
        and language.lanname in ('internal', 'c')
    ),
    -- functions whose body Postgres has parsed
    'functions', coalesce(
      (
        select jsonb_agg(jsonb_build_object(
          'oid', function.oid::bigint,
          'name', namespace.nspname || '.' || function.proname,
          'runs_as', case when function.prosecdef then function.proowner::bigint end,
          'arguments', function.pronargs,
          'returns_set', function.proretset,
          -- settings of its own may change who reads, and how
          'settled', not exists (
            select
            from unnest(function.proconfig) as setting
            where setting not like 'search\_path=%'
          ),
          'body', function.prosqlbody::text,
          'source', case when namespace.nspname = 'auth' then pg_get_function_sqlbody(function.oid) end
        ))
        from pg_catalog.pg_proc as function
        join pg_catalog.pg_namespace as namespace on namespace.oid = function.pronamespace
        where function.prosqlbody is not null
          and function.prokind = 'f'
          and namespace.nspname not in ('pg_catalog', 'information_schema')
      ),
      '[]'
    )
  )::text
