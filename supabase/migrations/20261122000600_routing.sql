-- Routing: who can serve whom, and who is given a session.

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

revoke execute on all functions in schema chat from public;
