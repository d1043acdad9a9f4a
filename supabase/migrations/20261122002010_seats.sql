-- Seats by queue: taking and leaving them, and who gets the one that is left.

-- Takes a seat with an agent. `since` is when the session began to need one.
create function chat.take_seat(
  session public.chat_sessions, agent uuid, since timestamptz, kind text, other_agent uuid, details jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  -- somebody who leads but is no support agent has no row until he takes a session
  if not exists (select from chat.agents as a where a.user_id = agent) then
    insert into chat.agents (user_id)
    values (agent)
    on conflict (user_id) do nothing;
    perform chat.refresh_agents(array[agent]);
  end if;

  update chat.agents as a
  set load = a.load + 1,
      last_assigned_at = clock_timestamp()
  where a.user_id = agent
  returning greatest(since, a.last_released_at, a.available_since) into since;

  insert into chat.assignments (session_id, agent_id, queue_id, latency)
  values (session.id, agent, session.queue_id, clock_timestamp() - since);

  perform chat.record(session, kind, agent, other_agent, session.queue_id, details => details);
end
$$;

-- Ends a session's open leg. Returns the agent whose seat is to be freed.
create function chat.close_leg(session uuid, outcome text)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  agent uuid;
begin
  update chat.assignments as a
  set released_at = clock_timestamp(),
      outcome = close_leg.outcome
  where a.session_id = session
    and a.released_at is null
  returning a.agent_id into agent;
  return agent;
end
$$;

-- Gives a waiting session, whose row is locked, to an agent, whose row is locked too and who has a free seat.
create function chat.give(session uuid, agent uuid, explanation jsonb)
returns void
language plpgsql
set search_path = ''
as $$
declare
  given public.chat_sessions;
  since timestamptz;
begin
  select * into strict given from public.chat_sessions as s where s.id = session;
  select q.entered_at into since from chat.queue as q where q.session_id = session and q.left_at is null;
  perform chat.take_seat(given, agent, since, 'assigned', null, explanation);
  update public.chat_sessions as s
  set agent_id = agent,
      status = 'active'
  where s.id = session;
end
$$;

-- Frees one seat of an agent, and gives it to `head` if he may have one more.
create function chat.free_seat(agent uuid, head uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  freed chat.agents;
begin
  update chat.agents as a
  set load = a.load - 1,
      last_released_at = clock_timestamp()
  where a.user_id = agent
  returning * into freed;

  if head is not null and chat.has_free_seat(freed) then
    perform chat.give(head, agent, chat.explain_offer(freed, 'first in line when a seat was freed'));
  end if;
end
$$;

-- Why this session: the agent had a seat, and it was the first whom he suits.
create function chat.explain_offer(agent chat.agents, reason text)
returns jsonb
language sql
immutable
set search_path = ''
as $$
  select jsonb_build_object(
    'reason', reason,
    'candidates', jsonb_build_array(jsonb_build_object(
      'agent_id', agent.user_id, 'load', agent.load, 'capacity', agent.capacity
    ))
  )
$$;

-- Who would get the seat that this agent frees next.
create function chat.lock_successor(agent uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  freed chat.agents;
begin
  select * into freed from chat.agents as a where a.user_id = agent;
  return (chat.lock_heads(
    freed, case when freed.available and freed.load <= freed.capacity then 1 else 0 end
  ))[1];
end
$$;

-- Gives up a session's seat; who is next in line gets it at once.
create or replace function chat.leave_seat(session uuid, outcome text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  agent uuid := chat.close_leg(session, outcome);
begin
  if agent is not null then
    perform chat.lock_queue_to_serve();
    perform chat.free_seat(agent, chat.lock_successor(agent));
  end if;
end
$$;

-- A session moves from one agent to another: its seat with the first goes to the next in line.
create function chat.pass_seat(session public.chat_sessions, from_agent uuid, to_agent uuid, outcome text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  head uuid;
begin
  perform chat.lock_queue_to_serve();
  head := chat.lock_successor(from_agent);
  perform from chat.agents as a
  where a.user_id in (from_agent, to_agent)
  order by a.user_id
  for no key update;

  perform chat.close_leg(session.id, outcome);
  perform chat.take_seat(session, to_agent, clock_timestamp(), outcome, from_agent, chat.cause());
  perform chat.free_seat(from_agent, head);
end
$$;

-- An active session loses its agent and goes back to its place, with the time of its start: nobody who came later goes
-- first. If somebody else is free he gets it at once. Its row, which the caller has locked, names no agent any more.
create function chat.return_to_line(session public.chat_sessions, outcome text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  agent uuid;
  head uuid;
  next_agent uuid;
  why jsonb;
  place chat.queue;
begin
  perform chat.lock_queue_to_join();
  agent := chat.close_leg(session.id, outcome);
  perform chat.record(session, 'requeued', null, agent, session.queue_id, details => chat.cause() || jsonb_build_object('reason', outcome));

  place := chat.place_for(session, session.started_at);
  if outcome = 'transferred' then
    place.excluded_agents := place.excluded_agents || agent;
  end if;
  head := chat.lock_successor(agent);
  select picked.agent, picked.explanation
  into next_agent, why
  from chat.pick_agent(place) as picked;

  if next_agent is null then
    perform chat.join_queue(session, place);
  else
    perform chat.take_seat(session, next_agent, place.entered_at, 'assigned', null, why);
  end if;
  perform chat.free_seat(agent, head);

  if next_agent is not null then
    update public.chat_sessions as s
    set agent_id = next_agent
    where s.id = session.id;
  end if;
end
$$;

-- Serves the first in line for whom somebody is free. Call it until it returns null.
create or replace function chat.assign_next()
returns uuid
language plpgsql
set search_path = ''
set enable_seqscan = off  -- a plan made while the line is short must do when it is long
set enable_sort = off
as $$
declare
  head uuid;
  place chat.queue;
  agent uuid;
  why jsonb;
begin
  if not exists (select from chat.queue as q where q.left_at is null)
    or not exists (select from chat.agents as a where chat.has_free_seat(a))
  then
    return null;
  end if;

  perform chat.lock_queue_to_serve();
  for head in
    select q.session_id
    from chat.queue as q
    where q.left_at is null
      and exists (select from chat.agents as a where a.available and a.load < a.capacity and chat.suits(a, q))
    order by q.rank_at, q.id
  loop
    continue when not chat.claim_head(head);
    select * into place from chat.queue as q where q.session_id = head and q.left_at is null;
    select picked.agent, picked.explanation
    into agent, why
    from chat.pick_agent(place) as picked;
    if agent is not null then
      perform chat.give(head, agent, why);
    end if;
    return case when agent is not null then head end;
  end loop;
  return null;
end
$$;

-- Availability: an agent who becomes available serves the line at once.
-- security definer: the sessions in line are not his yet.
create or replace function chat.follow_agent()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  wanted boolean := tg_op <> 'DELETE' and new.status = 'available' and new.is_accepting_tickets;
  person uuid := case when tg_op = 'DELETE' then old.user_id else new.user_id end;
  agent chat.agents;
  head uuid;
  heads uuid[];
begin
  select * into agent from chat.agents as a where a.user_id = person;
  if not found then
    insert into chat.agents (user_id)
    select u.id
    from auth.users as u
    where u.id = person
    on conflict (user_id) do nothing;
    perform chat.refresh_agents(array[person]);
    select * into agent from chat.agents as a where a.user_id = person;
  end if;
  if wanted is not distinct from agent.available then
    return null;
  end if;

  if not coalesce(wanted, false) then
    update chat.agents as a
    set available = false
    where a.user_id = person;
    perform pg_notify('chat', 'agents');
    return null;
  end if;

  -- alone at the line, because several of its heads are served in one transaction; they before the agent, as
  -- somebody who takes one of them by hand waits for his seat
  perform chat.lock_queue_to_join();
  heads := chat.lock_heads(agent, agent.capacity - agent.load);
  update chat.agents as a
  set available = true,
      available_since = clock_timestamp()
  where a.user_id = person
  returning * into agent;
  perform pg_notify('chat', 'agents');

  foreach head in array heads loop
    exit when not chat.has_free_seat(agent);
    perform chat.give(head, person, chat.explain_offer(agent, 'first in line when the agent became available'));
    agent.load := agent.load + 1;
  end loop;
  return null;
end
$$;

create or replace trigger chat_10_follow_agent
  after insert or delete or update on public.support_agents
  for each row
  execute function chat.follow_agent();

-- A raised capacity or a new skill is for the worker to use: who holds an agent waits for no place in line.
create trigger agents_notify_worker
  after update of capacity, skills on chat.agents
  for each statement
  execute function chat.notify_worker();

-- What was there before.

select chat.refresh_agents();

update chat.agents as a
set available = true,
    available_since = clock_timestamp()
from public.support_agents as s
where s.user_id = a.user_id
  and s.status = 'available'
  and s.is_accepting_tickets;

update chat.queue as q
set queue_id = s.queue_id,
    tenant_id = s.tenant_id,
    customer_id = s.customer_id,
    rank_at = q.queued_at
from public.chat_sessions as s
where s.id = q.session_id;

update chat.assignments as a
set queue_id = s.queue_id
from public.chat_sessions as s
where s.id = a.session_id;

drop function chat.may_serve(uuid, uuid, uuid, uuid);

revoke execute on all functions in schema chat from public;
