-- Messages: the table, what a sender may say, and what a message does to its session.
--
-- replaces sha256:ed74572ef95cf1d3faae9469b6721469a9546df9f526b2e53cdc955f09071fed
-- (the same on a database without this table)

-- Adoption: see the file before.

do $$
begin
  if to_regclass('public.chat_messages') is null then
    return;
  end if;

  drop trigger if exists update_chat_message_count_trigger on public.chat_messages;
  update public.chat_messages as m
  set sender_id = null
  where m.sender_id is not null
    and not exists (select from auth.users as u where u.id = m.sender_id);

  -- numbered in the order of their times, and among equals in the table's; no time is beyond reckoning
  with numbered as (
    select m.id, row_number() over (order by m.created_at nulls first, m.ctid) as seq
    from public.chat_messages as m
  )
  update public.chat_messages as m
  set seq = numbered.seq,
      created_at = case
        when isfinite(m.created_at) then m.created_at
        when isfinite(s.created_at) then s.created_at
        else now()
      end
  from numbered, public.chat_sessions as s
  where numbered.id = m.id
    and s.id = m.session_id;
  alter table public.chat_messages
    alter id set default gen_random_uuid(),
    alter message_type set default 'text',
    alter is_read set default false,
    alter created_at set default clock_timestamp(),
    alter seq set default 0,
    alter seq set not null,
    alter sender_id drop not null,
    alter sender_id drop default,
    drop constraint if exists valid_sender_type,
    drop constraint if exists valid_message_type,
    add constraint valid_sender_type check (sender_type in ('customer', 'agent', 'system')),
    add constraint valid_message_type check (message_type in ('text', 'file', 'image', 'system')),
    add foreign key (session_id) references public.chat_sessions (id) on delete cascade,
    add foreign key (sender_id) references auth.users (id) on delete set null,
    no force row level security;
end
$$;

create table if not exists public.chat_messages (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null references public.chat_sessions (id) on delete cascade,
  sender_id uuid references auth.users (id) on delete set null,
  sender_type varchar(20) not null,

  -- content
  message text not null,
  message_type varchar(20) default 'text',

  -- the file, if there is one
  file_url text,
  file_name varchar(500),
  file_size bigint,
  file_type varchar(100),

  -- read by the other party
  is_read boolean default false,
  read_at timestamptz,

  metadata jsonb,

  created_at timestamptz default clock_timestamp(),

  -- order: given under the session's lock, so within a session it grows with the order of commits
  seq bigint not null default 0,

  constraint valid_sender_type check (sender_type in ('customer', 'agent', 'system')),
  constraint valid_message_type check (message_type in ('text', 'file', 'image', 'system')),
  -- realtime drops the text of a change of more than a megabyte
  constraint chat_messages_length check (char_length(message) <= 4000),
  constraint chat_messages_not_blank check (message ~ '\S'),
  constraint chat_messages_file_url_length check (char_length(file_url) <= 4000),
  constraint chat_messages_metadata_size check (pg_column_size(metadata) <= 16384)
);

create sequence public.chat_messages_seq owned by public.chat_messages.seq;

-- adopted messages have numbers already
select setval('public.chat_messages_seq', max(m.seq))
from public.chat_messages as m
having count(*) > 0;

create index if not exists idx_chat_messages_session on public.chat_messages (session_id);
create index if not exists idx_chat_messages_sender on public.chat_messages (sender_id);
create index if not exists idx_chat_messages_created on public.chat_messages (created_at);
create index if not exists idx_chat_messages_type on public.chat_messages (message_type);
-- a session's history, as the portal asks for it
create index if not exists idx_chat_messages_history on public.chat_messages (session_id, created_at, seq);

alter table public.chat_messages enable row level security;

create function chat.reduce_message()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not row_security_active('public.chat_messages') then
    return new;
  end if;

  new.sender_id := coalesce(new.sender_id, auth.uid());  -- another's is refused by the policy
  new.sender_type := 'customer';  -- until the session tells whose message it is
  if new.message_type = 'system' then
    new.message_type := 'text';
  end if;
  new.is_read := false;
  new.read_at := null;
  new.created_at := null;
  return new;
end
$$;

create trigger chat_messages_10_reduce
  before insert on public.chat_messages
  for each row
  execute function chat.reduce_message();

-- security definer: locks and reads a session whatever the sender may see of it; the policy judges him afterwards.
create function chat.place_message()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  session record;
begin
  -- From here to the commit nobody else writes to this session: times and numbers grow with the order of commits.
  select s.customer_id, s.agent_id
  into session
  from public.chat_sessions as s
  where s.id = new.session_id
  for no key update;

  if new.sender_type <> 'system' then
    new.sender_type := case new.sender_id
      when session.customer_id then 'customer'
      when session.agent_id then 'agent'
      else new.sender_type
    end;
  end if;
  new.seq := nextval('public.chat_messages_seq');
  new.created_at := coalesce(new.created_at, clock_timestamp());
  return new;
end
$$;

create trigger chat_messages_20_place
  before insert on public.chat_messages
  for each row
  execute function chat.place_message();

-- security definer: the sender has no right to write what he sets in motion here.
create or replace function public.update_chat_session_message_count()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  session record;
begin
  update public.chat_sessions as s
  set messages_count = s.messages_count + 1,
      agent_joined_at = case
        when new.sender_type = 'agent' then coalesce(s.agent_joined_at, new.created_at)
        else s.agent_joined_at
      end,
      wait_time_seconds = case
        when new.sender_type = 'agent' and s.agent_joined_at is null
          then greatest(0, floor(extract(epoch from new.created_at - s.started_at)))
        else s.wait_time_seconds
      end,
      updated_at = now()
  where s.id = new.session_id
  returning s.status, s.ended_at into session;

  update public.chat_typing_indicators as t
  set is_typing = false,
      updated_at = clock_timestamp()
  where t.session_id = new.session_id
    and t.user_id = new.sender_id
    and t.is_typing;

  -- written after the end; what was written before it and comes now is history
  if new.sender_type = 'customer' and not chat.is_open(session.status) and new.created_at > session.ended_at then
    perform chat.answer_late_message(new.session_id);
  end if;
  return null;
end
$$;

create trigger update_chat_message_count_trigger
  after insert on public.chat_messages
  for each row
  execute function public.update_chat_session_message_count();

-- The one thing a reader may change: that he has read it.
create function chat.reduce_reading()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  kept public.chat_messages := old;
begin
  if not row_security_active('public.chat_messages') then
    return new;
  end if;
  if new.is_read and old.is_read is not true then
    kept.is_read := true;
    kept.read_at := clock_timestamp();
  end if;
  return kept;
end
$$;

create trigger chat_messages_10_reduce_reading
  before update on public.chat_messages
  for each row
  execute function chat.reduce_reading();

revoke execute on all functions in schema chat from public;
revoke execute on function public.update_chat_session_message_count() from public, anon, authenticated, service_role;
revoke all on sequence public.chat_messages_seq from anon, authenticated;
