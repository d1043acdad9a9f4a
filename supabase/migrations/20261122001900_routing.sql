-- Routing: which agent is given which session.
--
-- What runs with every start or end is plpgsql, whose plans are kept: a function in SQL that is not folded into its query
-- is planned anew at every call.

-- Whether an agent may be given a session at all: he serves its queue and its tenant, has the skills it takes, is not
-- the customer himself, and did not lose, refuse or give back this very session. One expression, so that Postgres
-- folds it into the queries that ask it.
create function chat.suits(agent chat.agents, place chat.queue)
returns boolean
language sql
immutable
begin atomic
  select place.queue_id = any (agent.queues)
    and (agent.tenant_id is null or agent.tenant_id = place.tenant_id)
    and agent.skills @> place.required_skills
    and agent.user_id is distinct from place.customer_id
    and agent.user_id <> all (place.excluded_agents);
end;

create function chat.has_free_seat(agent chat.agents)
returns boolean
language sql
immutable
begin atomic
  select agent.available and agent.load < agent.capacity;
end;

-- The queue a session goes to: the one it names, if it is its tenant's to name; else its tenant's default; else
-- everybody's.
create function chat.queue_for(wanted uuid, tenant uuid)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select q.id
    from public.chat_queues as q
    where (q.tenant_id is null or q.tenant_id = tenant)
      and (q.id = wanted or q.is_default)
    order by q.id = wanted desc nulls last, q.tenant_id nulls last
    limit 1
  );
end
$$;

-- The place that a session has, or would have, in line.
create function chat.place_for(session public.chat_sessions, queued_at timestamptz)
returns chat.queue
language plpgsql
stable
set search_path = ''
as $$
declare
  place chat.queue;
begin
  place.session_id := session.id;
  place.tenant_id := session.tenant_id;
  place.customer_id := session.customer_id;
  place.queued_at := queued_at;
  place.entered_at := clock_timestamp();
  select
    q.id,
    session.required_skills || q.required_skills,
    -- everybody waits alike: a point of priority is a head start that never grows, so nobody waits for ever
    queued_at - (session.priority + q.priority) * settings.priority_step
  into place.queue_id, place.required_skills, place.rank_at
  from public.chat_queues as q
  cross join chat.settings as settings
  where q.id = session.queue_id;

  place.excluded_agents := array(
    select distinct a.agent_id
    from chat.assignments as a
    where a.session_id = session.id
      and a.outcome in ('returned', 'rejected', 'unanswered')
  );
  return place;
end
$$;

-- Whether somebody whom this agent suits is ahead of this place.
create function chat.somebody_ahead(agent chat.agents, place chat.queue)
returns boolean
language plpgsql
set search_path = ''
set enable_seqscan = off  -- a plan made while the line is short must do when it is long
set enable_sort = off
as $$
begin
  return exists (
    select from chat.queue as q
    join public.chat_sessions as s on s.id = q.session_id
    where q.left_at is null
      and q.rank_at < place.rank_at
      and q.session_id <> place.session_id
      and chat.suits(agent, q)
      -- one statement may end many: who ended is served no more, though his place is still to be closed
      and s.agent_id is null
      and chat.is_open(s.status)
  );
end
$$;

-- Agents who could be given this place's session now: they suit it, have a free seat, and nobody whom they suit is
-- ahead. Best first, by the queue's routing; no more than so many.
-- volatile, so that it sees what was committed while its caller waited for a lock.
create function chat.candidates(place chat.queue, how_many integer)
returns setof chat.agents
language plpgsql
volatile
set search_path = ''
set enable_seqscan = off
set enable_sort = off
set plan_cache_mode = force_generic_plan  -- planning for each place takes longer than the query
rows 5
as $$
declare
  routing text;
  line boolean;
begin
  select q.routing
  into routing
  from public.chat_queues as q
  where q.id = place.queue_id;

  line := exists (
    select from chat.queue as q
    where q.left_at is null
      and q.rank_at < place.rank_at
      and q.session_id <> place.session_id
  );

  if routing = 'least_loaded' then
    -- in the order of an index: the first few are found without a look at the others
    return query
    select a.*
    from chat.agents as a
    where a.available
      and a.load < a.capacity
      and chat.suits(a, place)
      and (not line or not chat.somebody_ahead(a, place))
    order by a.load::double precision / nullif(a.capacity, 0), a.last_assigned_at nulls first, a.user_id
    limit how_many;
  else
    return query
    select a.*
    from chat.agents as a
    where a.available
      and a.load < a.capacity
      and chat.suits(a, place)
      and (not line or not chat.somebody_ahead(a, place))
    order by
      case routing when 'longest_idle' then a.last_released_at else a.last_assigned_at end nulls first,
      a.user_id
    limit how_many;
  end if;
end
$$;

-- Whether this agent is among them.
create function chat.is_candidate(agent uuid, place chat.queue)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
begin
  return exists (
    select from chat.agents as a
    where a.user_id = agent
      and a.available
      and a.load < a.capacity
      and chat.suits(a, place)
      and not chat.somebody_ahead(a, place)
  );
end
$$;

-- Locks an agent's row if he has a free seat for this place. Without one the lock goes again: who kept it while he
-- waits for the line or for the next agent would wait in a circle.
create function chat.lock_agent(agent uuid, place chat.queue, wait boolean)
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  locked chat.agents;
begin
  if wait then
    select * into locked from chat.agents as a where a.user_id = agent for no key update;
  else
    select * into locked from chat.agents as a where a.user_id = agent for no key update skip locked;
  end if;
  if not found then
    return false;
  end if;
  -- somebody may have given him another session meanwhile, or have come to stand ahead of us while we waited
  if not (locked.available and locked.load < locked.capacity)
    or wait and not chat.is_candidate(agent, place)
  then
    raise exception 'no longer free' using errcode = 'CHAT1';
  end if;
  return true;
exception
  when sqlstate 'CHAT1' then
    return false;
end
$$;

-- Picks the agent for a place in line, and says why; before all others the one who knows the customer. His row is
-- locked; null, and no row locked, when there is none. Agents whom somebody else is just giving a session are passed
-- over first, and waited for if nobody else has a seat: passing over alone leaves seats empty under load.
create function chat.pick_agent(
  place chat.queue, acquaintance uuid default null, out agent uuid, out explanation jsonb
)
language plpgsql
set search_path = ''
as $$
declare
  candidates chat.agents[];
  candidate chat.agents;
  how_many integer := 5;
begin
  loop
    candidates := array(select c from chat.candidates(place, how_many) as c);
    if acquaintance is not null and chat.is_candidate(acquaintance, place) then
      candidates := array(select a from chat.agents as a where a.user_id = acquaintance)
        || array(select c from unnest(candidates) as c where c.user_id <> acquaintance);
    end if;
    exit when candidates = '{}';

    foreach candidate in array candidates loop
      if chat.lock_agent(candidate.user_id, place, wait => false) then
        agent := candidate.user_id;
        explanation := chat.explain_choice(place, candidates, candidate, acquaintance);
        return;
      end if;
    end loop;
    if cardinality(candidates) >= how_many then
      how_many := how_many * 8;
      continue;
    end if;

    candidate := candidates[1];
    if chat.lock_agent(candidate.user_id, place, wait => true) then
      agent := candidate.user_id;
      explanation := chat.explain_choice(place, candidates, candidate, acquaintance);
      return;
    end if;
  end loop;
end
$$;

-- Why this one: what was asked, and the best candidates with their loads.
create function chat.explain_choice(
  place chat.queue, candidates chat.agents[], chosen chat.agents, acquaintance uuid
)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  best jsonb := '[]';
  candidate chat.agents;
begin
  foreach candidate in array candidates[1:5] loop
    best := best || jsonb_build_object(
      'agent_id', candidate.user_id,
      'load', candidate.load,
      'capacity', candidate.capacity,
      'last_assigned_at', candidate.last_assigned_at,
      'last_released_at', candidate.last_released_at
    );
  end loop;
  return jsonb_build_object(
    'reason', case
      when chosen.user_id = acquaintance then 'knows the customer'
      else (select q.routing from public.chat_queues as q where q.id = place.queue_id)
    end,
    'waited_since', place.queued_at,
    'required_skills', place.required_skills,
    'candidates', best,
    'more_candidates', cardinality(candidates) - jsonb_array_length(best)
  );
end
$$;

-- Why none: the first condition that nobody meets. Each question ends at the first agent who does.
create function chat.explain_wait(place chat.queue)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return jsonb_build_object(
    'reason', case
      when not exists (select from chat.agents as a where place.queue_id = any (a.queues))
        then 'nobody serves this queue'
      when not exists (select from chat.agents as a where chat.suits(a, place))
        then 'nobody suits this session'
      when not exists (select from chat.agents as a where a.available and chat.suits(a, place))
        then 'nobody who suits is available'
      when not exists (
        select from chat.agents as a
        where a.available
          and a.load < a.capacity
          and chat.suits(a, place)
      )
        then 'everybody who suits is busy'
      else 'others are ahead'
    end,
    'required_skills', place.required_skills,
    'excluded_agents', cardinality(place.excluded_agents),
    'available_agents', (select count(*) from chat.agents as a where a.available)
  );
end
$$;

revoke execute on all functions in schema chat from public;
