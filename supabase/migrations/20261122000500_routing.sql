-- Routing: who serves whom, and who waits.
--
-- A seat is an open row of chat.assignments, counted in chat.agents.load; a place in line is an open row of
-- chat.queue. Rows are closed, never deleted: both are also the history that reports are made of.
--
-- Whatever changes a session (a start, a portal's update, an operator, an account's deletion) changes its row, and
-- the triggers here keep seats and places in step with it.
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

-- Who can serve whom.

-- Whether this agent may be given this session at all. An agent whose account names a tenant serves it, one without
-- serves all; nobody serves himself, nor soon again a session he did not take or gave back.
create function chat.may_serve(agent uuid, session uuid, tenant uuid, customer uuid)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return agent is distinct from customer
    and exists (
      select from auth.users as u
      where u.id = agent
        and coalesce(u.raw_app_meta_data ->> 'tenant_id', tenant::text, '') = coalesce(tenant::text, '')
    )
    and not exists (
      select from chat.assignments as a
      where a.session_id = session
        and a.agent_id = agent
        and a.outcome in ('returned', 'unanswered')
        and a.released_at > now() - (select s.same_agent_after from chat.settings as s)
    );
end
$$;

-- Whether this agent may be given this session now, where `queued_at` is the session's time in line: he is available,
-- has a free seat, and nobody whom he could serve is ahead.
-- volatile, so that it sees what was committed while its caller waited for a lock.
create function chat.can_take(agent uuid, session uuid, tenant uuid, customer uuid, queued_at timestamptz)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  return exists (
      select from chat.agents as a
      join public.support_agents as s on s.user_id = a.user_id
      where a.user_id = agent
        and a.load < a.capacity
        and s.status = 'available'
        and s.is_accepting_tickets
    )
    and chat.may_serve(agent, session, tenant, customer)
    and not exists (
      select from chat.queue as q
      join public.chat_sessions as s on s.id = q.session_id
      where q.left_at is null
        and q.queued_at < can_take.queued_at
        and q.session_id <> session
        and s.agent_id is null
        and chat.is_open(s.status)
        and chat.may_serve(agent, s.id, s.tenant_id, s.customer_id)
    );
end
$$;

-- The agent to give a session to, his row locked; null, and no row locked, when there is none: fewest chats for his
-- capacity, then longest without a new one; before all, the one who knows the customer. Agents whom somebody else is just giving a session are passed over first,
-- and waited for if nobody else has a seat: passing over alone leaves seats empty under load.
create function chat.pick_agent(
  session uuid, tenant uuid, customer uuid, queued_at timestamptz, acquaintance uuid default null
)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  mode text;
  candidate uuid;
begin
  foreach mode in array array['skip', 'wait'] loop
    for candidate in
      select a.user_id
      from chat.agents as a
      where a.load < a.capacity
      order by
        a.user_id = acquaintance desc nulls last,
        a.load::double precision / a.capacity,
        a.last_assigned_at nulls first,
        a.user_id
    loop
      continue when not chat.can_take(candidate, session, tenant, customer, pick_agent.queued_at);
      begin
        if mode = 'skip' then
          perform from chat.agents as a where a.user_id = candidate for update skip locked;
          continue when not found;
        else
          perform from chat.agents as a where a.user_id = candidate for update;
        end if;
        if chat.can_take(candidate, session, tenant, customer, pick_agent.queued_at) then
          return candidate;
        end if;
        -- He was given a session while we waited. The lock goes with this block: who kept it while waiting for the
        -- queue or the next agent would wait in a circle.
        raise exception 'no longer free' using errcode = 'CHAT1';
      exception
        when sqlstate 'CHAT1' then null;
      end;
    end loop;
  end loop;
  return null;
end
$$;

-- Places.

create function chat.place_in_line(session uuid, tenant uuid)
returns integer
language sql
stable
set search_path = ''
as $$
  select count(*)::integer
  from chat.queue as mine
  join chat.queue as ahead
    on ahead.left_at is null and (ahead.queued_at, ahead.id) <= (mine.queued_at, mine.id)
  left join public.chat_sessions as s on s.id = ahead.session_id
  where mine.session_id = session
    and mine.left_at is null
    and (ahead.session_id = session or s.tenant_id is not distinct from tenant)
$$;

-- Takes a place; call chat.lock_queue_to_join first and look for a seat under it.
create function chat.join_queue(session uuid, queued_at timestamptz)
returns void
language sql
set search_path = ''
as $$
  insert into chat.queue (session_id, queued_at)
  values (session, queued_at)
  on conflict (session_id) where left_at is null do nothing
$$;

create function chat.leave_queue(session uuid, outcome text)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  update chat.queue as q
  set left_at = clock_timestamp(),
      outcome = leave_queue.outcome
  where q.session_id = session
    and q.left_at is null;
  return found;
end
$$;

-- Seats.

create function chat.take_seat(session uuid, agent uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- somebody who leads but is no support agent has no row until he takes a session
  insert into chat.agents (user_id)
  values (agent)
  on conflict (user_id) do nothing;

  update chat.agents as a
  set load = a.load + 1,
      last_assigned_at = clock_timestamp()
  where a.user_id = agent;

  insert into chat.assignments (session_id, agent_id)
  values (session, agent);
end
$$;

-- The first in line whom this agent could serve (null: whom any agent with a free seat could), its row locked.
create function chat.lock_head(agent uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  head uuid;
begin
  loop
    select s.id
    into head
    from chat.queue as q
    join public.chat_sessions as s on s.id = q.session_id
    where q.left_at is null
      -- one statement may end many: a row that ended is served no more, though its place is still to be closed
      and s.agent_id is null
      and chat.is_open(s.status)
      and case
        when agent is not null then chat.may_serve(agent, s.id, s.tenant_id, s.customer_id)
        else exists (
          select from chat.agents as a
          where a.load < a.capacity
            and chat.can_take(a.user_id, s.id, s.tenant_id, s.customer_id, null)
        )
      end
    order by q.queued_at, q.id
    limit 1
    for no key update of s;

    -- while we waited for the row somebody else may have served it
    exit when head is null
      or exists (select from chat.queue as q where q.session_id = head and q.left_at is null);
  end loop;
  return head;
end
$$;

-- Gives a session, whose row is locked, to an agent if there is one now.
create function chat.assign(session uuid)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  agent uuid;
begin
  select chat.pick_agent(s.id, s.tenant_id, s.customer_id, null)
  into agent
  from public.chat_sessions as s
  where s.id = session;

  update public.chat_sessions as s
  set agent_id = agent,
      status = 'active'
  where s.id = session
    and agent is not null;
  return found;
end
$$;

-- Serves the head of the queue if there is a seat for him. Call it until it returns null.
create function chat.assign_next()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  head uuid;
begin
  if not exists (select from chat.queue as q where q.left_at is null) then
    return null;
  end if;
  perform chat.lock_queue_to_serve();
  head := chat.lock_head(null);
  if head is null or not chat.assign(head) then
    return null;
  end if;
  return head;
end
$$;

-- Gives up a session's seat; who is next in line gets it at once.
create function chat.leave_seat(session uuid, outcome text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  agent uuid;
  head uuid;
begin
  update chat.assignments as a
  set released_at = clock_timestamp(),
      outcome = leave_seat.outcome
  where a.session_id = session
    and a.released_at is null
  returning a.agent_id into agent;
  if agent is null then
    return;
  end if;

  perform chat.lock_queue_to_serve();
  head := chat.lock_head(agent);
  update chat.agents as a
  set load = a.load - 1
  where a.user_id = agent;
  if head is not null then
    perform chat.assign(head);
  end if;
end
$$;

-- A session moves from one agent to another: no seat is offered to the queue between.
create function chat.pass_seat(session uuid, from_agent uuid, to_agent uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform from chat.agents as a
  where a.user_id in (from_agent, to_agent)
  order by a.user_id
  for update;

  update chat.assignments as a
  set released_at = clock_timestamp(),
      outcome = 'transferred'
  where a.session_id = session
    and a.released_at is null;
  if found then
    update chat.agents as a
    set load = a.load - 1
    where a.user_id = from_agent;
  end if;
  perform chat.take_seat(session, to_agent);
  perform pg_notify('chat', 'agents');
end
$$;

-- One open session a customer.

-- Closes a customer's other open session and gives its seat or its place in line to `session`. Returns the agent
-- who came along.
create function chat.supersede(customer uuid, session uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  earlier uuid;
  agent uuid;
begin
  select s.id
  into earlier
  from public.chat_sessions as s
  where s.customer_id = customer
    and s.id <> session
    and s.status in ('waiting', 'active')
  for no key update;
  if earlier is null then
    return null;
  end if;

  with seat as (
    update chat.assignments as a
    set session_id = session
    where a.session_id = earlier
      and a.released_at is null
    returning a.agent_id, a.assigned_at
  ), history as (
    insert into chat.assignments (session_id, agent_id, assigned_at, released_at, outcome)
    select earlier, seat.agent_id, seat.assigned_at, clock_timestamp(), 'superseded'
    from seat
  )
  select seat.agent_id
  into agent
  from seat;

  update chat.queue as q
  set session_id = session
  where q.session_id = earlier
    and q.left_at is null;

  insert into chat.events (session_id, kind, actor, actor_id, other_session_id)
  values (earlier, 'superseded', 'customer', customer, session);

  update public.chat_sessions as s
  set status = 'ended'
  where s.id = earlier;
  return agent;
end
$$;

-- What the customer wrote and nobody answered follows him from the sessions that this one superseded.
create function chat.carry_messages(to_session uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  with carried as (
    update public.chat_messages as m
    set session_id = to_session
    from chat.events as e
    where e.other_session_id = to_session
      and e.kind = 'superseded'
      and m.session_id = e.session_id
      and m.sender_type = 'customer'
      and m.is_read is not true
      and not exists (
        select from public.chat_messages as answer
        where answer.session_id = m.session_id
          and answer.sender_type = 'agent'
          and answer.seq > m.seq
      )
    returning e.session_id as from_session
  ), counts as (
    select from_session as session_id, -count(*) as change from carried group by from_session
    union all
    select to_session, count(*) from carried
  )
  update public.chat_sessions as s
  set messages_count = s.messages_count + counts.change
  from counts
  where s.id = counts.session_id
    and counts.change <> 0;
end
$$;

create function chat.tell_customer(session uuid, notice text)
returns void
language sql
set search_path = ''
as $$
  insert into public.chat_messages (session_id, sender_type, message_type, message)
  select session, 'system', 'system', notice
  where notice is not null
$$;

-- The start.
--
-- security definer, as everything below: seats, places and other people's sessions are not the caller's to touch.
-- Before the insert and not after it, because the row that the caller gets back must name his agent: the portal's
-- widget looks at nothing else, ever.
create function chat.start_session()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  room text := (select s.waiting_room from chat.settings as s);
  carried uuid;
begin
  if exists (select from public.chat_sessions as s where s.id = new.id) then
    return new;  -- not a start: this ends in the statement's conflict clause
  end if;

  new.tenant_id := coalesce(new.tenant_id, (
    select t.id
    from public.tenants as t
    where t.id::text = coalesce(
      chat.claimed_tenant()::text,
      (select u.raw_app_meta_data ->> 'tenant_id' from auth.users as u where u.id = new.customer_id)
    )
  ));
  if not chat.is_open(new.status) then
    return new;  -- history, brought in by somebody who may
  end if;

  if new.customer_id is not null then
    perform chat.lock_customer(new.customer_id);
    carried := chat.supersede(new.customer_id, new.id);
  end if;

  if new.agent_id is not null then
    perform chat.leave_queue(new.id, 'assigned');
    if carried is null then
      perform chat.take_seat(new.id, new.agent_id);
    elsif carried <> new.agent_id then
      perform chat.pass_seat(new.id, carried, new.agent_id);
    end if;
  elsif carried is not null then
    new.agent_id := carried;
  elsif not exists (select from chat.queue as q where q.session_id = new.id and q.left_at is null) then
    new.agent_id := chat.pick_agent(new.id, new.tenant_id, new.customer_id, clock_timestamp());
    if new.agent_id is null then
      perform chat.lock_queue_to_join();
      while chat.assign_next() is not null loop
        null;
      end loop;
      new.agent_id := chat.pick_agent(new.id, new.tenant_id, new.customer_id, clock_timestamp());
    end if;
    if new.agent_id is null then
      perform chat.join_queue(new.id, clock_timestamp());
    else
      perform chat.take_seat(new.id, new.agent_id);
    end if;
  end if;

  if new.agent_id is not null then
    new.status := 'active';
    new.queue_position := null;
  else
    -- an open waiting room lets the customer write at once: see chat.show_waiting
    new.status := case room when 'open' then 'active' else 'waiting' end;
    new.queue_position := chat.place_in_line(new.id, new.tenant_id);
  end if;
  return new;
end
$$;

create trigger chat_sessions_20_start
  before insert on public.chat_sessions
  for each row
  execute function chat.start_session();

create function chat.follow_start()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform chat.carry_messages(new.id);
  return null;
end
$$;

create trigger chat_sessions_30_follow_start
  after insert on public.chat_sessions
  for each row
  when (new.status in ('waiting', 'active'))
  execute function chat.follow_start();

-- The row returned by a start in an open waiting room says active; the row that stays says what is true.
create function chat.show_waiting()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.chat_sessions as s
  set status = 'waiting'
  where s.id = new.id
    and s.status = 'active'
    and s.agent_id is null;
  return null;
end
$$;

create constraint trigger chat_sessions_40_show_waiting
  after insert on public.chat_sessions
  deferrable initially deferred
  for each row
  when (new.status = 'active' and new.agent_id is null)
  execute function chat.show_waiting();

-- Every later change of state or agent.
create function chat.follow_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
  actor text := case
    when caller is null then 'system'
    when caller = old.customer_id then 'customer'
    when caller = old.agent_id then 'agent'
    else 'lead'
  end;
begin
  if new.rating is distinct from old.rating then
    insert into chat.events (session_id, kind, actor, actor_id)
    values (new.id, 'rated', actor, caller);
  end if;

  if chat.is_open(old.status) and not chat.is_open(new.status) then
    insert into chat.events (session_id, kind, actor, actor_id)
    values (new.id, 'ended', actor, caller);
    update public.chat_typing_indicators as t
    set is_typing = false,
        updated_at = clock_timestamp()
    where t.session_id = new.id
      and t.is_typing;
    if actor <> 'customer' and new.customer_id is not null then
      perform chat.tell_customer(new.id, (select s.ended_notice from chat.settings as s));
    end if;
    perform chat.leave_queue(new.id, case new.status when 'abandoned' then 'abandoned' else 'ended' end);
    perform chat.leave_seat(new.id, 'ended');

  elsif chat.is_open(new.status) and not chat.is_open(old.status) then
    insert into chat.events (session_id, kind, actor, actor_id)
    values (new.id, 'reopened', actor, caller);
    -- a session that was superseded to reopen this one has left its seat or its place to it
    if exists (
      select from chat.assignments as a where a.session_id = new.id and a.released_at is null
      union all
      select from chat.queue as q where q.session_id = new.id and q.left_at is null
    ) then
      null;
    elsif new.agent_id is not null then
      perform chat.take_seat(new.id, new.agent_id);
    else
      perform chat.lock_queue_to_join();
      perform chat.join_queue(new.id, new.started_at);
      perform chat.assign_next();
    end if;

  elsif chat.is_open(new.status) and new.agent_id is distinct from old.agent_id then
    if actor in ('agent', 'lead')
      and new.agent_id <> caller
      and not exists (select from public.support_agents as a where a.user_id = new.agent_id)
    then
      raise exception '% is no support agent', new.agent_id using errcode = 'check_violation';
    end if;
    if old.agent_id is null then
      perform chat.take_seat(new.id, new.agent_id);
      if chat.leave_queue(new.id, 'assigned') then
        perform chat.tell_customer(new.id, (select s.joined_notice from chat.settings as s));
      end if;
    elsif new.agent_id is null then
      -- back in line with the time of its start: nobody who came later goes first
      perform chat.lock_queue_to_join();
      perform chat.join_queue(new.id, new.started_at);
      perform chat.leave_seat(new.id, 'returned');
      perform chat.assign_next();
    else
      perform chat.pass_seat(new.id, old.agent_id, new.agent_id);
    end if;
  end if;

  update public.chat_sessions as s
  set queue_position = chat.place_in_line(s.id, s.tenant_id)
  where s.id = new.id
    and s.status = 'waiting'
    and s.queue_position is null;
  return null;
end
$$;

create trigger chat_sessions_30_follow_update
  after update on public.chat_sessions
  for each row
  when ((old.status, old.agent_id, old.rating) is distinct from (new.status, new.agent_id, new.rating))
  execute function chat.follow_update();

create function chat.leave_before_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if chat.is_open(old.status) then
    perform chat.leave_queue(old.id, 'ended');
    perform chat.leave_seat(old.id, 'ended');
  end if;
  return old;
end
$$;

create trigger chat_sessions_30_leave_before_delete
  before delete on public.chat_sessions
  for each row
  execute function chat.leave_before_delete();

-- Late messages.

-- A customer wrote to a session that is over. His text is kept whatever happens. If somebody else ended the session
-- not long ago, or he is here in another session, the chat goes on here; if he left it himself, his last words may
-- have crossed his leaving; if it was long ago, he is told to start anew.
create function chat.answer_late_message(session uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  settings chat.settings;
  closed public.chat_sessions;
  ended_by text;
  agent uuid;
begin
  select * into strict settings from chat.settings;
  select * into strict closed from public.chat_sessions as s where s.id = session;
  select e.actor
  into ended_by
  from chat.events as e
  where e.session_id = session
    and e.kind = 'ended'
  order by e.id desc
  limit 1;

  if coalesce(closed.ended_at < clock_timestamp() - settings.reopen_within, true) then
    perform chat.tell_customer(session, settings.closed_notice);
    return;
  end if;

  perform chat.lock_customer(closed.customer_id);
  agent := chat.supersede(closed.customer_id, session);
  if agent is null and not exists (
    select from chat.queue as q where q.session_id = session and q.left_at is null
  ) then
    if ended_by = 'customer' then
      return;
    end if;

    agent := chat.pick_agent(session, closed.tenant_id, closed.customer_id, closed.started_at, closed.agent_id);
    if agent is null then
      perform chat.lock_queue_to_join();
      agent := chat.pick_agent(session, closed.tenant_id, closed.customer_id, closed.started_at);
    end if;
  end if;

  update public.chat_sessions as s
  set status = case when agent is null then 'waiting' else 'active' end,
      agent_id = agent
  where s.id = session;
  perform chat.carry_messages(session);
end
$$;

-- Agents.

create function chat.follow_agent()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into chat.agents (user_id)
  select u.id
  from auth.users as u
  where u.id = new.user_id
  on conflict (user_id) do nothing;

  if new.status = 'available' and new.is_accepting_tickets then
    perform pg_notify('chat', 'agents');
    -- alone at the queue, because several heads are served in one transaction
    perform chat.lock_queue_to_join();
    while chat.assign_next() is not null loop
      null;
    end loop;
  end if;
  return null;
end
$$;

create or replace trigger chat_10_follow_agent
  after insert or update on public.support_agents
  for each row
  execute function chat.follow_agent();

insert into chat.agents (user_id)
select distinct u.id
from auth.users as u
join public.support_agents as a on a.user_id = u.id
on conflict (user_id) do nothing;

-- Handing over.
--
-- Policies refuse an update that takes the row out of the caller's sight, and a session handed to a colleague leaves
-- its agent's sight. So his update leaves a note (chat.reduce_update), and the session changes hands at its end.
create table chat.handovers (
  id bigint generated always as identity primary key,
  session_id uuid not null references public.chat_sessions (id) on delete cascade,
  from_agent uuid not null,
  to_agent uuid not null,
  requested_at timestamptz not null default clock_timestamp()
);

create index handovers_session on chat.handovers (session_id);
alter table chat.handovers enable row level security;

-- security definer, and asks for itself whether the session is the caller's.
create function chat.request_handover(session uuid, to_agent uuid)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  handed public.chat_sessions;
begin
  select *
  into handed
  from public.chat_sessions as s
  where s.id = session
    and s.agent_id = auth.uid()
    and s.status = 'active';
  if not found then
    return;
  end if;
  if not exists (select from public.support_agents as a where a.user_id = to_agent)
    or not chat.may_serve(to_agent, handed.id, handed.tenant_id, handed.customer_id)
  then
    raise exception 'agent % does not serve this session', to_agent using errcode = 'check_violation';
  end if;

  insert into chat.handovers (session_id, from_agent, to_agent)
  values (session, handed.agent_id, to_agent);
end
$$;

create function chat.hand_over()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.chat_sessions as s
  set agent_id = new.to_agent
  where s.id = new.session_id
    and s.agent_id = new.from_agent
    and s.status = 'active';
  return null;
end
$$;

create constraint trigger handovers_hand_over
  after insert on chat.handovers
  deferrable initially deferred
  for each row
  execute function chat.hand_over();

revoke execute on all functions in schema chat from public;
grant execute on function chat.request_handover(uuid, uuid) to authenticated;
