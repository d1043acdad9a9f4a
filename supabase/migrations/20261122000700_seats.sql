-- Taking and leaving places and seats.

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

revoke execute on all functions in schema chat from public;
