-- The roles of a Supabase project. They belong to the server, not to one database, so each is made only where
-- missing; a role that exists keeps its attributes.

-- Two databases of one server may be prepared at once; only a shared catalog's lock is one for both.
lock table pg_catalog.pg_authid in share row exclusive mode;

do $$
declare
  wanted record;
begin
  for wanted in
    select *
    from (values
      -- what API callers become
      ('anon', 'nologin noinherit'),
      ('authenticated', 'nologin noinherit'),
      ('service_role', 'nologin noinherit bypassrls'),
      -- who logs in on their behalf
      ('authenticator', 'login noinherit'),
      -- the owner of the product's schema: as on a hosted project no superuser
      ('postgres', 'login createdb createrole replication bypassrls'),
      -- owners of the internal schemas
      ('supabase_admin', 'login superuser createdb createrole replication bypassrls'),
      ('supabase_auth_admin', 'login noinherit createrole'),
      ('supabase_storage_admin', 'login noinherit createrole'),
      ('supabase_realtime_admin', 'nologin noinherit'),
      -- named in dumps of hosted projects
      ('supabase_functions_admin', 'login noinherit createrole'),
      ('supabase_replication_admin', 'login replication'),
      ('supabase_read_only_user', 'login bypassrls'),
      ('dashboard_user', 'nologin createdb createrole replication'),
      ('pgbouncer', 'login')
    ) as role (name, attributes)
    where not exists (select from pg_catalog.pg_roles where rolname = role.name)
  loop
    execute format('create role %I %s', wanted.name, wanted.attributes);
  end loop;
end
$$;

grant anon, authenticated, service_role to authenticator;
grant anon, authenticated, service_role to supabase_storage_admin;
grant anon, authenticated, service_role to postgres;
grant supabase_auth_admin, supabase_storage_admin, supabase_realtime_admin to postgres;
grant pg_monitor, pg_read_all_data, pg_signal_backend to postgres;
grant pg_read_all_data to supabase_read_only_user;
-- The supabase CLI's data dumps begin by setting it, and a hosted project's postgres may.
grant set on parameter session_replication_role to postgres;
-- The REST service is configured by settings of its login role, and a hosted project's postgres may make them.
grant set on parameter
  pgrst.db_schemas, pgrst.db_extra_search_path, pgrst.db_anon_role, pgrst.db_max_rows, pgrst.db_pre_request,
  pgrst.db_root_spec, pgrst.db_hoisted_tx_settings, pgrst.db_aggregates_enabled, pgrst.db_plan_enabled,
  pgrst.db_tx_end, pgrst.jwt_aud, pgrst.openapi_mode
to postgres;

-- Time limits by role, as on a hosted project. They bound what a caller can make the database do.
alter role anon set statement_timeout = '3s';
alter role authenticated set statement_timeout = '8s';
alter role authenticator set statement_timeout = '8s';
alter role supabase_auth_admin set search_path = 'auth';
alter role supabase_auth_admin set idle_in_transaction_session_timeout = '60s';
alter role supabase_storage_admin set search_path = 'storage';
-- Seeds and migrations written for Supabase call crypt() and uuid_generate_v4() without a schema.
alter role postgres set search_path = '$user', 'public', 'extensions';
alter role supabase_admin set search_path = '$user', 'public', 'auth', 'extensions';
