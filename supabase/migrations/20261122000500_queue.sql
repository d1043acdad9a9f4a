-- Seats and places: the tables, and the locks that keep them right.
--
-- A seat is an open row of chat.assignments, counted in chat.agents.load; a place in line is an open row of
-- chat.queue. Rows are closed, never deleted: both are also the history that reports are made of.
--
-- Whatever changes a session (a start, a portal's update, an operator, an account's deletion) changes its row, and
-- the triggers of the files that follow keep seats and places in step with it.
--
-- Locks are taken in this order, so that nobody waits in a circle:
--   1. the customer        advisory: two starts of one customer
--   2. the session         its row
--   3. the queue           advisory: exclusive to join it, shared to serve it. Whoever joins has then seen every seat
--                          that was freed, and whoever frees a seat every one who joined: no seat stays empty
--   4. the head of the queue, its session's row
--   5. agents              their rows
-- A start that finds a seat takes only 1 and 5.

create table chat.queue (
  id bigint generated always as identity primary key,
  -- deferred: a start takes its place before its row is written
  session_id uuid not null references public.chat_sessions (id) on delete cascade deferrable initially deferred,
  -- whose turn it is; a session that comes back keeps its time
  queued_at timestamptz not null,
  entered_at timestamptz not null default clock_timestamp(),
  left_at timestamptz,
  outcome text check (outcome in ('assigned', 'abandoned', 'ended')),
  -- the place the customer was last told, and when
  told_position integer,
  told_at timestamptz,
  constraint queue_left_with_outcome check ((left_at is null) = (outcome is null))
);

create unique index queue_one_place_per_session on chat.queue (session_id) where left_at is null;
create index queue_line on chat.queue (queued_at, id) where left_at is null;
create index queue_session on chat.queue (session_id);

create table chat.assignments (
  id bigint generated always as identity primary key,
  session_id uuid not null references public.chat_sessions (id) on delete cascade deferrable initially deferred,
  -- no foreign key: the history outlives the account
  agent_id uuid not null,
  assigned_at timestamptz not null default clock_timestamp(),
  released_at timestamptz,
  outcome text check (outcome in ('ended', 'returned', 'unanswered', 'transferred', 'superseded')),
  constraint assignments_released_with_outcome check ((released_at is null) = (outcome is null))
);

create unique index assignments_one_seat_per_session on chat.assignments (session_id) where released_at is null;
create index assignments_session on chat.assignments (session_id);
create index assignments_agent on chat.assignments (agent_id, released_at);

-- What happened to a session, and by whom. Only ever added to.
create table chat.events (
  id bigint generated always as identity primary key,
  session_id uuid not null references public.chat_sessions (id) on delete cascade,
  happened_at timestamptz not null default clock_timestamp(),
  kind text not null check (kind in ('ended', 'superseded', 'reopened', 'rated')),
  actor text not null check (actor in ('customer', 'agent', 'lead', 'system')),
  actor_id uuid,
  -- superseded: by which session
  other_session_id uuid
);

create index events_session on chat.events (session_id, id);
create index events_other_session on chat.events (other_session_id) where other_session_id is not null;

alter table chat.settings enable row level security;
alter table chat.agents enable row level security;
alter table chat.queue enable row level security;
alter table chat.assignments enable row level security;
alter table chat.events enable row level security;

-- The worker is told when the line changes.
create function chat.notify_worker()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform pg_notify('chat', tg_table_name);
  return null;
end
$$;

create trigger queue_notify_worker
  after insert or update of left_at on chat.queue
  for each statement
  execute function chat.notify_worker();

-- Locks.

create function chat.lock_customer(customer uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('chat.customer ' || customer, 0));
end
$$;

create function chat.lock_queue_to_join()
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('chat.queue', 0));
end
$$;

create function chat.lock_queue_to_serve()
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock_shared(hashtextextended('chat.queue', 0));
end
$$;

revoke execute on all functions in schema chat from public;
