-- What the API's services listen to: publications for realtime, and word of DDL for REST's schema cache and for what
-- realtime remembers.

do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
    alter publication supabase_realtime owner to postgres;
  end if;
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime_messages_publication') then
    create publication supabase_realtime_messages_publication for table realtime.messages with (publish = 'insert');
  end if;
  -- the tables that policies read; the gateway adds them
  if not exists (select from pg_catalog.pg_publication where pubname = 'switchboard_policies') then
    create publication switchboard_policies;
  end if;
end
$$;

create or replace function extensions.pgrst_ddl_watch()
returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  -- Temporary objects are nobody else's business.
  if exists (
    select
    from pg_event_trigger_ddl_commands() as command
    where command.schema_name is distinct from 'pg_temp'
      and command.command_tag in (
        'CREATE SCHEMA', 'ALTER SCHEMA', 'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE',
        'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE', 'CREATE VIEW', 'ALTER VIEW', 'CREATE MATERIALIZED VIEW',
        'ALTER MATERIALIZED VIEW', 'CREATE FUNCTION', 'ALTER FUNCTION', 'CREATE TRIGGER', 'CREATE TYPE',
        'ALTER TYPE', 'CREATE DOMAIN', 'ALTER DOMAIN', 'CREATE CAST', 'CREATE RULE', 'COMMENT'
      )
  ) then
    notify pgrst, 'reload schema';
  end if;
end
$$;

create or replace function extensions.pgrst_drop_watch()
returns event_trigger
language plpgsql
set search_path = ''
as $$
begin
  if exists (
    select
    from pg_event_trigger_dropped_objects() as dropped
    where not dropped.is_temporary
      and dropped.object_type in (
        'schema', 'table', 'foreign table', 'view', 'materialized view', 'function', 'trigger', 'type', 'rule'
      )
  ) then
    notify pgrst, 'reload schema';
  end if;
end
$$;

do $$
begin
  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'pgrst_ddl_watch') then
    create event trigger pgrst_ddl_watch on ddl_command_end execute function extensions.pgrst_ddl_watch();
  end if;
  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'pgrst_drop_watch') then
    create event trigger pgrst_drop_watch on sql_drop execute function extensions.pgrst_drop_watch();
  end if;
end
$$;

-- Puts word of DDL into the stream of changes, in the order of commits: what realtime remembers of policies ends there.
-- Security definer: whoever makes a table may not write messages into the log.
create or replace function realtime.tell_ddl()
returns event_trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_event = 'ddl_command_end' then
    if tg_tag in ('COMMENT', 'CREATE INDEX', 'REINDEX', 'REFRESH MATERIALIZED VIEW') then
      return;
    end if;
    -- Temporary objects are nobody else's business. Some commands do not say what they did; those are told.
    if exists (select from pg_event_trigger_ddl_commands())
      and not exists (
        select
        from pg_event_trigger_ddl_commands() as command
        where command.schema_name is distinct from 'pg_temp'
      )
    then
      return;
    end if;
  elsif not exists (select from pg_event_trigger_dropped_objects() as dropped where not dropped.is_temporary) then
    return;
  end if;
  perform pg_logical_emit_message(true, 'realtime.ddl', tg_tag);
end
$$;

do $$
begin
  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'switchboard_ddl') then
    create event trigger switchboard_ddl on ddl_command_end execute function realtime.tell_ddl();
  end if;
  if not exists (select from pg_catalog.pg_event_trigger where evtname = 'switchboard_drop') then
    create event trigger switchboard_drop on sql_drop execute function realtime.tell_ddl();
  end if;
end
$$;

-- Also where triggers are off, as while a dump is restored.
alter event trigger switchboard_ddl enable always;
alter event trigger switchboard_drop enable always;
