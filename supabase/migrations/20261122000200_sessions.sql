-- Sessions: the table, its numbers, and what each kind of caller may say about one.

create table public.chat_sessions (
  id uuid primary key default gen_random_uuid(),
  session_number varchar(20) unique not null,

  -- participants
  tenant_id uuid references public.tenants (id),
  customer_id uuid references auth.users (id) on delete set null,
  customer_name varchar(255) not null,
  customer_email varchar(255) not null,
  agent_id uuid references auth.users (id) on delete set null,

  -- state: waiting and active are open, the others are closed
  status varchar(20) not null default 'waiting',
  queue_position integer,

  -- times, all the server's
  started_at timestamptz default now(),
  agent_joined_at timestamptz,
  ended_at timestamptz,

  -- metrics, all the server's
  wait_time_seconds integer,
  chat_duration_seconds integer,
  messages_count integer default 0,

  -- rating
  rating integer check (rating >= 1 and rating <= 5),
  feedback_comment text,
  feedback_submitted_at timestamptz,

  -- context
  page_url text,
  user_agent text,
  ip_address inet,

  -- metadata
  tags text[],
  metadata jsonb,

  created_at timestamptz default now(),
  updated_at timestamptz default now(),

  constraint valid_status check (status in ('waiting', 'active', 'ended', 'abandoned', 'transferred')),
  constraint chat_sessions_page_url_length check (char_length(page_url) <= 4000),
  constraint chat_sessions_metadata_size check (pg_column_size(metadata) <= 16384)
) with (fillfactor = 80);  -- each message counts on its session's row: room for an update in place

create index idx_chat_sessions_customer on public.chat_sessions (customer_id);
create index idx_chat_sessions_agent on public.chat_sessions (agent_id);
create index idx_chat_sessions_status on public.chat_sessions (status);
create index idx_chat_sessions_tenant on public.chat_sessions (tenant_id);
create index idx_chat_sessions_created on public.chat_sessions (created_at desc);

-- A start closes the customer's earlier session, so this never refuses one.
create unique index chat_sessions_one_open_per_customer
  on public.chat_sessions (customer_id)
  where status in ('waiting', 'active');

alter table public.chat_sessions enable row level security;

create function chat.is_open(status text)
returns boolean
language sql
immutable
begin atomic
  select status in ('waiting', 'active');
end;

-- Numbers.

create sequence public.chat_session_number_seq start 1;

-- security definer: callers have no right to the sequence, so that none can burn or read numbers.
create function public.generate_chat_session_number()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  number text := nextval('public.chat_session_number_seq')::text;
begin
  -- lpad to a fixed width would cut the ninth digit off
  new.session_number := 'CHAT-' || lpad(number, greatest(8, length(number)), '0');
  return new;
end
$$;

create trigger generate_chat_session_number_trigger
  before insert on public.chat_sessions
  for each row
  when (new.session_number is null)
  execute function public.generate_chat_session_number();

-- What callers may say.
--
-- The portal sends more than it may (status, agent, times and metrics of the browser's clock), and an error would
-- leave its widget unusable: what a caller may not say is replaced, silently. The functions run as the caller, so
-- that `row_security_active` tells one who is under policies from the database's own statements and the service role.

create function chat.reduce_start()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not row_security_active('public.chat_sessions') then
    return new;
  end if;

  new.customer_id := coalesce(new.customer_id, auth.uid());  -- another's is refused by the policy
  new.status := 'waiting';
  new.session_number := null;
  new.tenant_id := null;
  new.agent_id := null;
  new.queue_position := null;
  new.started_at := clock_timestamp();
  new.created_at := new.started_at;
  new.updated_at := new.started_at;
  new.agent_joined_at := null;
  new.ended_at := null;
  new.wait_time_seconds := null;
  new.chat_duration_seconds := null;
  new.messages_count := 0;
  new.rating := null;
  new.feedback_comment := null;
  new.feedback_submitted_at := null;
  new.ip_address := null;
  return new;
end
$$;

create trigger chat_sessions_10_reduce_start
  before insert on public.chat_sessions
  for each row
  execute function chat.reduce_start();

create function chat.reduce_update()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
  leads boolean;
  kept public.chat_sessions := old;
begin
  if not row_security_active('public.chat_sessions') then
    return new;
  end if;

  leads := (chat.leads_all_tenants() or old.tenant_id = chat.led_tenant()) is true;
  if caller = old.customer_id then
    if chat.is_open(old.status) and not chat.is_open(new.status) then
      -- who leaves before an agent wrote anything was not served
      kept.status := case when old.agent_joined_at is null then 'abandoned' else 'ended' end;
    end if;
    if not chat.is_open(kept.status) and new.rating is not null then
      kept.rating := new.rating;
      kept.feedback_comment := left(new.feedback_comment, 4000);
    end if;

  elsif caller = old.agent_id or leads then
    kept.tags := new.tags;
    kept.metadata := new.metadata;
    if chat.is_open(old.status) then
      if not chat.is_open(new.status) then
        kept.status := 'ended';
      elsif new.agent_id <> old.agent_id and not leads then
        perform chat.request_handover(old.id, new.agent_id);  -- leaves his sight: see there
      elsif new.agent_id is distinct from old.agent_id then
        kept.agent_id := new.agent_id;
      else
        kept.status := new.status;  -- waiting gives an active session back to the queue
      end if;
    end if;

  elsif old.status = 'waiting' and new.agent_id = caller then
    kept.agent_id := caller;  -- somebody who serves this queue takes the session
  end if;

  return kept;
end
$$;

create trigger chat_sessions_10_reduce_update
  before update on public.chat_sessions
  for each row
  execute function chat.reduce_update();

-- What follows from a change within the row itself.
-- security definer: settings are not the callers' to read.
create function chat.settle_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  instant timestamptz := clock_timestamp();
begin
  -- an open session is active while somebody serves it
  if chat.is_open(new.status) then
    if old.customer_id is not null and new.customer_id is null then
      new.status := 'abandoned';  -- the customer's account is gone
    elsif new.status = 'waiting' and old.status = 'active' and new.agent_id is not distinct from old.agent_id then
      new.agent_id := null;
    end if;
  end if;
  if chat.is_open(new.status) then
    new.status := case when new.agent_id is null then 'waiting' else 'active' end;
  end if;

  if chat.is_open(old.status) and not chat.is_open(new.status) then
    new.ended_at := instant;
    new.chat_duration_seconds := floor(extract(epoch from instant - new.started_at));
    new.wait_time_seconds := floor(extract(epoch from new.agent_joined_at - new.started_at));
  elsif chat.is_open(new.status) and not chat.is_open(old.status) then
    new.ended_at := null;
    new.chat_duration_seconds := null;
  end if;
  if new.status <> 'waiting' then
    new.queue_position := null;
  end if;

  if (new.rating, new.feedback_comment) is distinct from (old.rating, old.feedback_comment) then
    if new.ended_at < instant - (select s.rate_within from chat.settings as s) then
      new.rating := old.rating;
      new.feedback_comment := old.feedback_comment;
    else
      new.feedback_submitted_at := instant;
    end if;
  end if;

  new.updated_at := instant;
  return new;
end
$$;

create trigger chat_sessions_20_settle_update
  before update on public.chat_sessions
  for each row
  when (
    (old.status, old.agent_id, old.customer_id, old.rating, old.feedback_comment, old.tags, old.metadata)
    is distinct from
    (new.status, new.agent_id, new.customer_id, new.rating, new.feedback_comment, new.tags, new.metadata)
  )
  execute function chat.settle_update();

revoke execute on all functions in schema chat from public;
revoke execute on function public.generate_chat_session_number() from public, anon, authenticated, service_role;
revoke all on sequence public.chat_session_number_seq from anon, authenticated;
grant execute on function chat.is_open(text) to authenticated, service_role;
