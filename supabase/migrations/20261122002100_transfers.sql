-- What staff do to a session: take it, take it over, hand it on, give it back, refuse it.
--
-- The portal's way is an update of the row (agent_id, queue_id, status), which chat.reduce_update judges. The
-- functions here say the same with a name and a reason.

-- A note for the end of the transaction now may name a queue instead of an agent, or neither: back in line.
alter table chat.handovers
  alter column to_agent drop not null,
  add column to_queue uuid,
  add column reason text not null default 'transferred';

drop function chat.request_handover(uuid, uuid);

-- Whether a session may be handed to this agent.
create function chat.check_recipient(session public.chat_sessions, agent uuid)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if not exists (
    select from public.support_agents as a
    join auth.users as u on u.id = a.user_id
    where a.user_id = agent
      and coalesce(chat.tenant_of(u.raw_app_meta_data) = session.tenant_id, true)
  ) or agent = session.customer_id then
    raise exception 'agent % does not serve this session', agent
      using errcode = 'check_violation', hint = 'Choose a support agent of the session''s tenant.';
  end if;
end
$$;

create function chat.check_queue(session public.chat_sessions, queue uuid)
returns void
language plpgsql
stable
set search_path = ''
as $$
begin
  if chat.queue_for(queue, session.tenant_id) is distinct from queue then
    raise exception 'queue % does not serve this session', queue
      using errcode = 'check_violation', hint = 'Choose a queue of the session''s tenant.';
  end if;
end
$$;

-- security definer, and asks for itself whether the session is the caller's.
create function chat.request_handover(session uuid, to_agent uuid, to_queue uuid)
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
  if to_agent is not null then
    perform chat.check_recipient(handed, to_agent);
  else
    perform chat.check_queue(handed, to_queue);
  end if;

  insert into chat.handovers (session_id, from_agent, to_agent, to_queue)
  values (session, handed.agent_id, to_agent, to_queue);
end
$$;

create or replace function chat.hand_over()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform chat.because(new.reason);
  update public.chat_sessions as s
  set agent_id = new.to_agent,
      queue_id = coalesce(new.to_queue, s.queue_id)
  where s.id = new.session_id
    and s.agent_id = new.from_agent
    and s.status = 'active';
  perform chat.because(null);
  return null;
end
$$;

create or replace function chat.reduce_update()
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

  if caller = old.customer_id then
    if chat.is_open(old.status) and not chat.is_open(new.status) then
      -- who leaves before an agent wrote anything was not served
      kept.status := case when old.agent_joined_at is null then 'abandoned' else 'ended' end;
    end if;
    if not chat.is_open(kept.status) and new.rating is not null then
      kept.rating := new.rating;
      kept.feedback_comment := left(new.feedback_comment, 4000);
    end if;
    return kept;
  end if;

  leads := chat.leads(old.tenant_id);
  if caller = old.agent_id or leads then
    kept.tags := new.tags;
    kept.metadata := new.metadata;
    if not chat.is_open(old.status) then
      return kept;
    end if;

    kept.priority := new.priority;
    kept.required_skills := coalesce(new.required_skills, '{}');
    if not chat.is_open(new.status) then
      kept.status := 'ended';
    elsif leads then
      kept.agent_id := new.agent_id;
      kept.queue_id := new.queue_id;
      if new.queue_id is distinct from old.queue_id and new.agent_id is not distinct from old.agent_id then
        kept.agent_id := null;  -- to another queue is into its line
      elsif new.status = 'waiting' and new.agent_id is not distinct from old.agent_id then
        kept.status := 'waiting';
      end if;
    elsif new.agent_id <> old.agent_id or new.queue_id <> old.queue_id then
      -- leaves his sight: see chat.handovers
      perform chat.request_handover(
        old.id, case when new.agent_id <> old.agent_id then new.agent_id end, new.queue_id
      );
    elsif new.agent_id is null then
      kept.agent_id := null;
    else
      kept.status := new.status;  -- waiting gives an active session back to the queue
    end if;

  elsif old.status = 'waiting' and new.agent_id = caller then
    kept.agent_id := caller;  -- somebody who serves this queue takes the session
  end if;

  return kept;
end
$$;

-- For clients: supabase.rpc('chat_transfer', { session_id, agent_id }) and so on.

-- The session, its row locked, if the caller may work on it: its agent, who leads its tenant, or the service. Others
-- learn nothing about it.
create function chat.lock_own_session(session uuid)
returns public.chat_sessions
language plpgsql
set search_path = ''
as $$
declare
  own public.chat_sessions;
begin
  select *
  into own
  from public.chat_sessions as s
  where s.id = session
  for no key update;
  if not found
    or auth.uid() is not null and own.agent_id is distinct from auth.uid() and not chat.leads(own.tenant_id)
  then
    raise exception 'session % is not yours to work on', session
      using errcode = 'insufficient_privilege', hint = 'Its agent may, and who leads its tenant.';
  end if;
  return own;
end
$$;

-- Takes a waiting session, or, as a lead, one that another agent has.
-- security definer, as all below: each asks for itself whether the caller may; seats and places are not his to touch.
create function public.chat_take(session_id uuid)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  taken public.chat_sessions;
begin
  select *
  into taken
  from public.chat_sessions as s
  where s.id = chat_take.session_id
  for no key update;

  if not found
    or auth.uid() is null
    or auth.uid() = taken.customer_id
    or not coalesce(
      chat.leads(taken.tenant_id)
      or taken.agent_id = auth.uid()
      or taken.status = 'waiting'
        and (chat.serves_all_tenants() or taken.tenant_id = chat.served_tenant())
        and taken.queue_id = any (chat.served_queues()),
      false
    )
  then
    raise exception 'session % is not yours to take', chat_take.session_id
      using errcode = 'insufficient_privilege', hint = 'Agents take who waits in a queue they serve; leads take over.';
  end if;
  if not chat.is_open(taken.status) then
    raise exception 'session % is over', chat_take.session_id using errcode = 'check_violation';
  end if;

  update public.chat_sessions as s
  set agent_id = auth.uid()
  where s.id = chat_take.session_id
    and s.agent_id is distinct from auth.uid();
end
$$;

-- Hands a session to an agent, who needs a free seat, or to a queue.
create function public.chat_transfer(
  session_id uuid, agent_id uuid default null, queue_id uuid default null, comment text default null
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  handed public.chat_sessions := chat.lock_own_session(session_id);
begin
  if (chat_transfer.agent_id is null) = (chat_transfer.queue_id is null) then
    raise exception 'a transfer is to an agent or to a queue' using errcode = 'invalid_parameter_value';
  end if;
  if not chat.is_open(handed.status) then
    raise exception 'session % is over', handed.id using errcode = 'check_violation';
  end if;
  if chat_transfer.agent_id is not null then
    perform chat.check_recipient(handed, chat_transfer.agent_id);
  else
    perform chat.check_queue(handed, chat_transfer.queue_id);
  end if;

  perform chat.because('transferred', comment);
  update public.chat_sessions as s
  set agent_id = chat_transfer.agent_id,
      queue_id = coalesce(chat_transfer.queue_id, s.queue_id)
  where s.id = handed.id;
  perform chat.because(null);
end
$$;

-- Gives an active session back to the head of its line; its agent is not given it again.
create function public.chat_requeue(session_id uuid, comment text default null)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  own public.chat_sessions := chat.lock_own_session(session_id);
begin
  perform chat.requeue(own.id, 'returned', comment);
end
$$;

-- Refuses a session that one was just given, before any answer.
create function public.chat_reject(session_id uuid, comment text default null)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  own public.chat_sessions := chat.lock_own_session(session_id);
begin
  if chat.has_answered(own.id) then
    raise exception 'session % was answered already', own.id
      using errcode = 'check_violation', hint = 'Requeue or transfer it.';
  end if;
  perform chat.requeue(own.id, 'rejected', comment);
end
$$;

-- Whether the agent who has this session wrote anything since he has it.
create function chat.has_answered(session uuid)
returns boolean
language sql
stable
set search_path = ''
as $$
  select exists (
    select from chat.assignments as a
    join public.chat_messages as m
      on m.session_id = a.session_id
      and m.sender_id = a.agent_id
      and m.sender_type = 'agent'
      and m.created_at >= a.assigned_at
    where a.session_id = session
      and a.released_at is null
  )
$$;

-- Puts an active session back in line, with the time of its start. Why: returned, rejected, unanswered or lost; all but
-- the last keep it from being given to the same agent again.
create function chat.requeue(session uuid, reason text, comment text default null)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform chat.because(reason, comment);
  update public.chat_sessions as s
  set agent_id = null
  where s.id = session
    and s.status = 'active';
  perform chat.because(null);
end
$$;

revoke execute on all functions in schema chat from public;
grant execute on function chat.request_handover(uuid, uuid, uuid) to authenticated;
