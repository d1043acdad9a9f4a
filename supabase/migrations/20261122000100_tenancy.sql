-- Who is who: tenants, roles and agents.
--
-- The three tables belong to the portal, whose other parts also use them: they are made only where they are missing
-- and never altered. What the chat itself knows about an agent stands in chat.agents.

do $$
begin
  if to_regclass('public.tenants') is null then
    create table public.tenants (
      id uuid primary key default gen_random_uuid(),
      name text not null,
      created_at timestamptz not null default now()
    );
    alter table public.tenants enable row level security;
    revoke all on public.tenants from anon, authenticated;
    grant select on public.tenants to authenticated;
    grant all on public.tenants to service_role;
    create policy "Members see their tenant"
      on public.tenants for select
      to authenticated
      using (id::text = (select auth.jwt() #>> '{app_metadata,tenant_id}'));
  end if;

  if to_regclass('public.user_roles') is null then
    create table public.user_roles (
      user_id uuid not null references auth.users (id) on delete cascade,
      role_name text not null,
      created_at timestamptz not null default now(),
      primary key (user_id, role_name)
    );
    alter table public.user_roles enable row level security;
    revoke all on public.user_roles from anon, authenticated;
    grant select on public.user_roles to authenticated;
    grant all on public.user_roles to service_role;
    create policy "Users see their own roles"
      on public.user_roles for select
      to authenticated
      using (user_id = (select auth.uid()));
  end if;

  if to_regclass('public.support_agents') is null then
    create table public.support_agents (
      user_id uuid primary key references auth.users (id) on delete cascade,
      status text not null default 'offline',
      is_accepting_tickets boolean not null default true,
      created_at timestamptz not null default now()
    );
    alter table public.support_agents enable row level security;
    revoke all on public.support_agents from anon, authenticated;
    grant select, update (status, is_accepting_tickets) on public.support_agents to authenticated;
    grant all on public.support_agents to service_role;
    create policy "Agents say whether they are available"
      on public.support_agents for update
      to authenticated
      using (user_id = (select auth.uid()))
      with check (user_id = (select auth.uid()));
  end if;
end
$$;

-- Rules, queues and history. The API does not expose this schema; usage lets policies and triggers name what is
-- in it, and each function says who may call it.
create schema chat;
grant usage on schema chat to authenticated, service_role;

-- What an operator may decide. One row.
create table chat.settings (
  only_row boolean primary key default true check (only_row),
  -- open: a customer may write while he waits, and the row his start returns says active; closed: it says waiting
  waiting_room text not null default 'open' check (waiting_room in ('open', 'closed')),
  -- how long a customer's message reopens a session that somebody else ended
  reopen_within interval not null default '15 minutes',
  -- how long after its end a session may be rated
  rate_within interval not null default '7 days',
  -- the portal says nothing while somebody keeps typing, so never less than half a minute
  typing_expires interval not null default '30 seconds' check (typing_expires >= interval '30 seconds'),
  -- how long an agent who did not take a session, or gave it back, is not given it again
  same_agent_after interval not null default '5 minutes',
  -- at most one notice about the place in the queue in this time
  place_notice_every interval not null default '15 seconds',
  -- what the customer is told; null: nothing. %s is the place in the queue.
  place_notice text default 'You are number %s in the queue.',
  joined_notice text default 'You are now connected with an agent.',
  ended_notice text default 'This chat has ended.',
  closed_notice text default 'This chat is closed. Please start a new one to reach us.',
  -- no message for so long ends a session; null: never
  idle_after interval default '24 hours'
);

insert into chat.settings default values;

-- What the chat knows about an agent. Rows come with those of support_agents.
create table chat.agents (
  user_id uuid primary key references auth.users (id) on delete cascade,
  -- sessions at a time; may be set below the present load, which then only falls
  capacity integer not null default 5 check (capacity >= 0),
  -- open assignments, counted under this row's lock
  load integer not null default 0 check (load >= 0),
  last_assigned_at timestamptz,
  last_seen_at timestamptz
) with (fillfactor = 70);

-- A check constraint would forbid lowering an agent's capacity below his load; this forbids only taking more.
create function chat.keep_within_capacity()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'agent % has no free seat', new.user_id
    using errcode = 'check_violation', constraint = 'agents_load_within_capacity';
end
$$;

create trigger agents_load_within_capacity
  before update of load on chat.agents
  for each row
  when (new.load > old.load and new.load > new.capacity)
  execute function chat.keep_within_capacity();

-- Whom the caller is. Policies call these as `(select chat.f())`, once a statement; they read nothing but claims and
-- the portal's tables, which may hide their rows from the caller: hence security definer.
--
-- A member of staff whose claims name a tenant serves it; without one he belongs to the platform and serves all.

create function chat.claimed_tenant()
returns uuid
language sql
stable
begin atomic
  select case
    when claim ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then claim::uuid
  end
  from (select auth.jwt() #>> '{app_metadata,tenant_id}' as claim) as claims;
end;

create function chat.is_lead()
returns boolean
language sql
stable
security definer
set search_path = ''
begin atomic
  select exists (
    select from public.user_roles as r
    where r.user_id = auth.uid()
      and r.role_name in ('platform_admin', 'support_admin', 'support_manager')
  );
end;

create function chat.is_staff()
returns boolean
language sql
stable
security definer
set search_path = ''
begin atomic
  select exists (
    select from public.user_roles as r
    where r.user_id = auth.uid()
      and r.role_name in ('platform_admin', 'support_admin', 'support_manager', 'support_agent')
  ) or exists (
    select from public.support_agents as a
    where a.user_id = auth.uid()
  );
end;

-- Whether the caller leads every tenant's chats.
create function chat.leads_all_tenants()
returns boolean
language sql
stable
security definer
set search_path = ''
begin atomic
  select exists (
    select from public.user_roles as r
    where r.user_id = auth.uid()
      and (
        r.role_name = 'platform_admin'
        or r.role_name in ('support_admin', 'support_manager') and chat.claimed_tenant() is null
      )
  );
end;

-- The one tenant whose chats the caller leads, if he leads one.
create function chat.led_tenant()
returns uuid
language sql
stable
security definer
set search_path = ''
begin atomic
  select chat.claimed_tenant() where chat.is_lead();
end;

-- Whether the caller serves every tenant's queue.
create function chat.serves_all_tenants()
returns boolean
language sql
stable
security definer
set search_path = ''
begin atomic
  select chat.claimed_tenant() is null and chat.is_staff() or chat.leads_all_tenants();
end;

-- The one tenant whose queue the caller serves, if he serves one.
create function chat.served_tenant()
returns uuid
language sql
stable
security definer
set search_path = ''
begin atomic
  select chat.claimed_tenant() where chat.is_staff();
end;

-- Only where the table is ours.
do $$
begin
  if exists (
    select from pg_policies as p
    where p.schemaname = 'public'
      and p.tablename = 'support_agents'
      and p.policyname = 'Agents say whether they are available'
  ) then
    create policy "Staff see agents"
      on public.support_agents for select
      to authenticated
      using ((select chat.is_staff()));
    create policy "Leads say who is available"
      on public.support_agents for update
      to authenticated
      using ((select chat.is_lead()))
      with check ((select chat.is_lead()));
  end if;
end
$$;

revoke execute on all functions in schema chat from public;
grant execute on function
  chat.claimed_tenant(), chat.is_lead(), chat.is_staff(), chat.leads_all_tenants(), chat.led_tenant(),
  chat.serves_all_tenants(), chat.served_tenant()
to authenticated, service_role;
