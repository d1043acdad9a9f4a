-- Schema realtime: messages that the database broadcasts, and who is subscribed to what.

do $$
begin
  if to_regtype('realtime.action') is null then
    create type realtime.action as enum ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'ERROR');
  end if;
  if to_regtype('realtime.equality_op') is null then
    create type realtime.equality_op as enum (
      'eq', 'neq', 'lt', 'lte', 'gt', 'gte', 'in', 'like', 'ilike', 'is', 'match', 'imatch', 'isdistinct'
    );
  end if;
  if to_regtype('realtime.user_defined_filter') is null then
    create type realtime.user_defined_filter as (
      column_name text,
      op realtime.equality_op,
      value text,
      negate boolean
    );
  end if;
end
$$;

create or replace function realtime.to_regrole(role_name text)
returns regrole
language sql
immutable
return role_name::regrole;

-- The live subscriptions, one row for each binding of each joined channel.
create table if not exists realtime.subscription (
  id bigint generated always as identity primary key,
  subscription_id uuid not null,
  entity regclass not null,
  filters realtime.user_defined_filter[] not null default '{}',
  claims jsonb not null,
  claims_role regrole not null generated always as (realtime.to_regrole(claims ->> 'role')) stored,
  created_at timestamp not null default timezone('utc', now()),
  action_filter text default '*',
  selected_columns text[],
  constraint subscription_action_filter_check check (action_filter in ('*', 'INSERT', 'UPDATE', 'DELETE'))
);

create index if not exists ix_realtime_subscription_entity on realtime.subscription (entity);
create index if not exists subscription_subscription_id_idx on realtime.subscription (subscription_id);

grant select on realtime.subscription to postgres, anon, authenticated, service_role, dashboard_user;

-- How far the channels of realtime.subscription are, so that a client who loses its connection goes on where it was, at
-- this gateway or another. Unlogged: after a crash of Postgres everybody joins anew.
create unlogged table if not exists realtime.resumable (
  id uuid primary key,
  -- who joined what
  key bytea not null,
  -- of the client's last message
  last_ref bigint not null,
  -- of the first change that may not have arrived
  commit pg_lsn not null,
  change bigint not null,
  lost_at timestamptz
);

create index if not exists resumable_key on realtime.resumable (key, last_ref);
revoke all on realtime.resumable from public, anon, authenticated, service_role;

-- The gateways on this database. One that is not here any more has been taken for dead by another.
create table if not exists realtime.gateway (
  name text primary key,
  -- which of its runs
  run uuid not null,
  started_at timestamptz not null default now(),
  -- before which place its clients have had everything
  delivered pg_lsn not null
);

revoke all on realtime.gateway from public, anon, authenticated, service_role;

-- Gateways speak to each other by messages in the log, and take what comes there for each other's word.
do $$
declare
  emit regprocedure;
begin
  for emit in
    select oid
    from pg_catalog.pg_proc
    where pronamespace = 'pg_catalog'::regnamespace
      and proname = 'pg_logical_emit_message'
  loop
    execute format('revoke execute on function %s from public', emit);
    execute format('grant execute on function %s to postgres', emit);
  end loop;
end
$$;

-- Which of the asked rows each asker may see. Asker i takes the role roles[i] and the claims claims[i] and runs the
-- prepared statement statements[i] on questions[i]. One that fails answers with its failure and hurts nobody else.
-- It runs with the caller's rights: Postgres lets no security definer function take a role. Its search_path stays the
-- session's: policies are to find what they find in a request.
create or replace function realtime.visible(statements text[], roles text[], claims text[], questions text[])
returns table (asker int, question int, failure text)
language plpgsql
as $$
begin
  for i in 1 .. pg_catalog.cardinality(statements) loop
    begin
      perform
        pg_catalog.set_config('role', roles[i], true),
        pg_catalog.set_config('request.jwt.claims', claims[i], true);
      return query execute pg_catalog.format('execute %I (%s, %L)', statements[i], i, questions[i]);
    exception
      when others then
        asker := i;
        question := null;
        failure := sqlerrm || ' (' || sqlstate || ')';
        return next;
    end;
  end loop;
end
$$;

grant usage on schema realtime to authenticator;
revoke execute on function realtime.visible(text[], text[], text[], text[]) from public;
grant execute on function realtime.visible(text[], text[], text[], text[]) to authenticator;

set local role supabase_realtime_admin;

-- What the database broadcasts, and what policies of private channels are written on. One partition a day.
create table if not exists realtime.messages (
  topic text not null,
  extension text not null,
  payload jsonb,
  event text,
  private boolean default false,
  updated_at timestamp not null default now(),
  inserted_at timestamp not null default now(),
  id uuid not null default gen_random_uuid(),
  binary_payload bytea,
  primary key (id, inserted_at),
  constraint messages_one_payload check (payload is null or binary_payload is null)
) partition by range (inserted_at);

alter table realtime.messages enable row level security;

grant select, insert, update on realtime.messages to postgres, anon, authenticated, service_role;

-- Makes the partitions from yesterday to three days ahead and drops those past their three days. Safe to call at
-- any time and from several places.
create or replace function realtime.maintain_message_partitions()
returns void
language plpgsql
set search_path = ''
as $$
declare
  day date;
  old record;
begin
  perform pg_advisory_xact_lock(hashtext('realtime.maintain_message_partitions'));
  for day in
    select (timezone('utc', now())::date + n)
    from generate_series(-1, 3) as n
  loop
    execute format(
      'create table if not exists realtime.%I partition of realtime.messages for values from (%L) to (%L)',
      'messages_' || to_char(day, 'YYYY_MM_DD'), day, day + 1
    );
  end loop;
  for old in
    select child.relname
    from pg_catalog.pg_inherits
    join pg_catalog.pg_class as child on child.oid = inhrelid
    where inhparent = 'realtime.messages'::regclass
      and child.relname ~ '^messages_\d{4}_\d{2}_\d{2}$'
      and to_date(right(child.relname, 10), 'YYYY_MM_DD') < timezone('utc', now())::date - 3
  loop
    execute format('drop table if exists realtime.%I', old.relname);
  end loop;
end
$$;

revoke execute on function realtime.maintain_message_partitions() from public;

do $$
begin
  perform realtime.maintain_message_partitions();
end
$$;

-- The topic a policy is asked about.
create or replace function realtime.topic()
returns text
language sql
stable
return nullif(current_setting('realtime.topic', true), '');

-- Broadcasts a payload to a topic. It never fails its caller: a message that cannot be sent is a warning.
create or replace function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void
language plpgsql
set search_path = ''
as $$
declare
  message_id uuid := gen_random_uuid();
begin
  if jsonb_typeof(payload) = 'object' and not payload ? 'id' then
    payload := jsonb_set(payload, '{id}', to_jsonb(message_id));
  end if;
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (id, payload, event, topic, private, extension)
  values (message_id, send.payload, send.event, send.topic, send.private, 'broadcast');
exception
  when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- The same for bytes.
create or replace function realtime.send_binary(payload bytea, event text, topic text, private boolean default true)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform set_config('realtime.topic', topic, true);
  insert into realtime.messages (binary_payload, event, topic, private, extension)
  values (send_binary.payload, send_binary.event, send_binary.topic, send_binary.private, 'broadcast');
exception
  when others then
    raise warning 'WarnSendingBroadcastMessage: %', sqlerrm;
end
$$;

-- Broadcasts a row's change; called from row triggers.
create or replace function realtime.broadcast_changes(
  topic_name text,
  event_name text,
  operation text,
  table_name text,
  table_schema text,
  new record,
  old record,
  level text default 'ROW'
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  if level = 'STATEMENT' then
    raise exception 'function can only be triggered for each row, not for each statement';
  end if;
  if operation not in ('INSERT', 'UPDATE', 'DELETE') then
    raise exception 'operation % is not supported', operation;
  end if;
  perform realtime.send(
    jsonb_build_object(
      'old_record', case when operation <> 'INSERT' then to_jsonb(old) end,
      'record', case when operation <> 'DELETE' then to_jsonb(new) end,
      'operation', operation,
      'table', table_name,
      'schema', table_schema
    ),
    event_name,
    topic_name
  );
end
$$;

-- Puts one message of each extension on a topic, for a caller's policies to show or hide. The transaction that calls
-- it is rolled back. Security definer: only the owner may write messages past the policies.
create or replace function realtime.probe(topic text, broadcast uuid, presence uuid)
returns void
language sql
security definer
set search_path = ''
as $$
  insert into realtime.messages (id, topic, extension)
  values (probe.broadcast, probe.topic, 'broadcast'), (probe.presence, probe.topic, 'presence')
$$;

revoke execute on function realtime.probe(text, uuid, uuid) from public;
grant execute on function realtime.probe(text, uuid, uuid) to authenticator;

reset role;
