-- Queues: the departments that customers turn to, who serves them, and what a session or an agent brings along.
--
-- A desk that sets nothing up has one queue, the default one, which every agent serves.

create table public.chat_queues (
  id uuid primary key default gen_random_uuid(),
  -- null: every tenant's
  tenant_id uuid references public.tenants (id) on delete cascade,
  name text not null check (char_length(name) between 1 and 255),
  -- where a session goes that names no queue
  is_default boolean not null default false,
  -- a point of priority, here or on a session, is worth `chat.settings.priority_step` of waiting
  priority integer not null default 0 check (priority between -100 and 100),
  -- who of the agents with a free seat is given a session:
  --   least_loaded  who has the fewest chats for his capacity, then who was longest without a new one
  --   longest_idle  who was longest without an end of a chat
  --   round_robin   who was longest without a new one, whatever his load
  routing text not null default 'least_loaded' check (routing in ('least_loaded', 'longest_idle', 'round_robin')),
  -- what an agent must have, besides what the session asks for
  required_skills text[] not null default '{}',
  -- a returning customer is given to the agent he had last, when that one has a free seat
  last_agent_first boolean not null default false,
  -- an agent who says nothing for so long loses the session to the next one; null: never
  answer_within interval default '3 minutes' check (answer_within > interval '0'),
  -- where those go who waited `overflow_after` here
  overflow_queue_id uuid references public.chat_queues (id) on delete set null,
  overflow_after interval check (overflow_after >= interval '0'),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint chat_queues_overflow_elsewhere check (overflow_queue_id <> id)
);

create unique index chat_queues_one_default_per_tenant
  on public.chat_queues (tenant_id) nulls not distinct
  where is_default;
create unique index chat_queues_name_per_tenant on public.chat_queues (tenant_id, lower(name)) nulls not distinct;

-- The same id everywhere: whoever moves a desk to another database takes its sessions along.
insert into public.chat_queues (id, name, is_default)
values ('00000000-0000-4000-8000-000000000137', 'Default', true);

-- Who serves a queue. A queue without members is served by every agent of its tenant.
create table public.chat_queue_members (
  queue_id uuid not null references public.chat_queues (id) on delete cascade,
  agent_id uuid not null references auth.users (id) on delete cascade,
  created_at timestamptz not null default now(),
  primary key (queue_id, agent_id)
);

create index chat_queue_members_agent on public.chat_queue_members (agent_id);

alter table public.chat_queues enable row level security;
alter table public.chat_queue_members enable row level security;

alter table public.chat_sessions
  -- set at the start, and by transfers and overflow
  add column queue_id uuid references public.chat_queues (id) on delete set null,
  -- staff's: more goes first
  add column priority integer not null default 0,
  -- what an agent must have to be given this session, as a language
  add column required_skills text[] not null default '{}',
  add constraint chat_sessions_priority_range check (priority between -100 and 100),
  add constraint chat_sessions_required_skills_size check (pg_column_size(required_skills) <= 4096);

create index idx_chat_sessions_queue on public.chat_sessions (queue_id);

update public.chat_sessions
set queue_id = '00000000-0000-4000-8000-000000000137';

alter table chat.settings
  -- how much waiting a point of priority is worth. As everybody waits alike, who has less is overtaken by those who
  -- came up to so much later, and by nobody after that.
  add column priority_step interval not null default '1 minute' check (priority_step >= interval '0');

-- What routing looks at, on the row whose lock it takes.
alter table chat.agents
  add column skills text[] not null default '{}',
  -- whether support_agents says that he takes chats (chat.follow_agent keeps it so)
  add column available boolean not null default false,
  -- when a chat of his last ended or left him
  add column last_released_at timestamptz;

-- A place in line carries what routing asks of a session, as it is taken before the session's row is written.
alter table chat.queue
  add column queue_id uuid,
  add column tenant_id uuid,
  add column customer_id uuid,
  add column required_skills text[] not null default '{}',
  -- agents who did not answer, gave it back or refused it
  add column excluded_agents uuid[] not null default '{}',
  -- the order of the line: queued_at less what priority is worth
  add column rank_at timestamptz;

-- Whether the caller leads this tenant's chats.
create function chat.leads(tenant uuid)
returns boolean
language sql
stable
set search_path = ''
begin atomic
  select coalesce(chat.leads_all_tenants() or tenant = chat.led_tenant(), false);
end;

create function chat.touch()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := clock_timestamp();
  return new;
end
$$;

create trigger chat_queues_10_touch
  before update on public.chat_queues
  for each row
  execute function chat.touch();

revoke execute on all functions in schema chat from public;
grant execute on function chat.leads(uuid) to authenticated, service_role;
