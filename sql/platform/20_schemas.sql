-- Schemas and extensions. Internal schemas belong to supabase_admin: `supabase db reset` drops all others.

create schema if not exists extensions authorization postgres;
create schema if not exists auth authorization supabase_admin;
create schema if not exists storage authorization supabase_admin;
create schema if not exists realtime authorization supabase_admin;
create schema if not exists graphql_public authorization supabase_admin;

grant all on schema auth to supabase_auth_admin, postgres, dashboard_user;
grant all on schema storage to supabase_storage_admin, postgres, dashboard_user;
grant all on schema realtime to supabase_realtime_admin, dashboard_user;
grant usage on schema realtime to postgres;
-- As hosted: the owner of the product uses the internal schemas and adds nothing to them.
revoke create on schema auth, storage from postgres;
grant all on schema extensions to dashboard_user;
grant usage
  on schema public, auth, storage, realtime, extensions, graphql_public
  to anon, authenticated, service_role;
grant usage, create on schema public to postgres;

create extension if not exists pgcrypto with schema extensions;
create extension if not exists "uuid-ossp" with schema extensions;

-- `create extension`, `create schema` and `create publication` in migrations need the right to create.
do $$
begin
  execute format('grant create on database %I to postgres, supabase_auth_admin, supabase_storage_admin', current_database());
  execute format('grant all on database %I to dashboard_user', current_database());
end
$$;

-- What postgres creates in public the API roles may use, row level security permitting: Supabase's default, which
-- a project can revoke. Our own migrations grant explicitly and do not depend on it.
alter default privileges for role postgres in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role supabase_admin in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;
