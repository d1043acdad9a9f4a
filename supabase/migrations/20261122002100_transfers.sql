-- What staff and time do to a session: take it, take it over, hand it on, give it back, refuse it; no answer; overflow.
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

-- Time. Each does one session's worth and returns it, null when nothing is due.

create index assignments_open on chat.assignments (assigned_at) where released_at is null;

-- Who was given a session and says nothing loses it to the next one. Who types is about to say something.
create function chat.requeue_unanswered()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  unanswered uuid;
begin
  select s.id
  into unanswered
  from chat.assignments as a
  join public.chat_sessions as s on s.id = a.session_id
  join public.chat_queues as q on q.id = s.queue_id
  where a.released_at is null
    and a.assigned_at < clock_timestamp() - q.answer_within
    and s.status = 'active'
    and not chat.has_answered(s.id)
    and not exists (
      select from public.chat_typing_indicators as t
      where t.session_id = s.id
        and t.user_id = a.agent_id
        and t.is_typing
    )
  order by a.assigned_at
  limit 1
  for no key update of s skip locked;

  if unanswered is not null and not chat.has_answered(unanswered) then
    perform chat.requeue(unanswered, 'unanswered');
  end if;
  return unanswered;
end
$$;

-- Who waited too long goes over to the queue that stands in, with the time he waited, and to none twice.
create function chat.overflow_next()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  overdue uuid;
  target uuid;
begin
  select s.id, wanted.overflow_queue_id
  into overdue, target
  from chat.queue as q
  join public.chat_sessions as s on s.id = q.session_id
  join public.chat_queues as wanted on wanted.id = q.queue_id
  where q.left_at is null
    and wanted.overflow_queue_id is not null
    and q.queue_since < clock_timestamp() - wanted.overflow_after
    and s.status = 'waiting'
    and chat.queue_for(wanted.overflow_queue_id, s.tenant_id) = wanted.overflow_queue_id
    and not exists (
      select from chat.events as e
      where e.session_id = s.id
        and e.kind in ('queued', 'overflowed')
        and e.queue_id = wanted.overflow_queue_id
    )
  order by q.rank_at, q.id
  limit 1
  for no key update of s skip locked;

  if overdue is not null then
    perform chat.because('overflowed');
    update public.chat_sessions as s
    set queue_id = target
    where s.id = overdue
      and s.status = 'waiting';
    perform chat.because(null);
  end if;
  return overdue;
end
$$;

-- A queue's priority and skills count for those who wait in it.
-- security definer: who leads changes queues, not the line.
create function chat.follow_queue_change()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform chat.move_place(s)
  from public.chat_sessions as s
  where s.queue_id = new.id
    and s.status = 'waiting';
  perform pg_notify('chat', 'queue');
  return null;
end
$$;

create trigger chat_queues_30_follow_change
  after update on public.chat_queues
  for each row
  when ((old.priority, old.required_skills) is distinct from (new.priority, new.required_skills))
  execute function chat.follow_queue_change();

create function chat.keep_default_queue()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'the default queue of all tenants stays'
    using errcode = 'check_violation', hint = 'Sessions that name no queue go there.';
end
$$;

create trigger chat_queues_10_keep_default
  before delete on public.chat_queues
  for each row
  when (old.is_default and old.tenant_id is null)
  execute function chat.keep_default_queue();

create trigger chat_queues_10_keep_default_update
  before update on public.chat_queues
  for each row
  when (old.is_default and old.tenant_id is null and (not new.is_default or new.tenant_id is not null))
  execute function chat.keep_default_queue();

-- Sets right what statements past the triggers (a restore, a replica role) left wrong. Changes nothing otherwise.
create or replace function chat.reconcile()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  changed bigint;
  total bigint := 0;
  wrong record;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('chat.reconcile', 0)) then
    return 0;
  end if;
  perform chat.lock_queue_to_join();

  insert into chat.agents (user_id)
  select distinct a.user_id
  from public.support_agents as a
  join auth.users as u on u.id = a.user_id
  on conflict (user_id) do nothing;
  get diagnostics changed = row_count;
  total := total + changed;

  update public.chat_sessions as s
  set queue_id = chat.queue_for(null, s.tenant_id)
  where s.queue_id is null
    and s.status in ('waiting', 'active');
  get diagnostics changed = row_count;
  total := total + changed;

  update chat.queue as q
  set left_at = clock_timestamp(),
      outcome = 'ended'
  from public.chat_sessions as s
  where s.id = q.session_id
    and q.left_at is null
    and s.status <> 'waiting';
  get diagnostics changed = row_count;
  total := total + changed;

  insert into chat.queue (
    session_id, queued_at, queue_id, tenant_id, customer_id, required_skills, excluded_agents, rank_at
  )
  select
    s.id, place.queued_at, place.queue_id, place.tenant_id, place.customer_id, place.required_skills,
    place.excluded_agents, place.rank_at
  from public.chat_sessions as s
  cross join lateral chat.place_for(s, coalesce(s.started_at, clock_timestamp())) as place
  where s.status = 'waiting'
    and not exists (select from chat.queue as q where q.session_id = s.id and q.left_at is null)
  on conflict (session_id) where left_at is null do nothing;
  get diagnostics changed = row_count;
  total := total + changed;

  -- nobody takes or leaves a seat while the agents are locked, so the count is true
  perform from chat.agents as a order by a.user_id for no key update;
  perform chat.refresh_agents();

  update chat.agents as a
  set available = wanted.available,
      available_since = case when wanted.available then clock_timestamp() else a.available_since end
  from (
    select
      b.user_id,
      exists (
        select from public.support_agents as s
        where s.user_id = b.user_id and s.status = 'available' and s.is_accepting_tickets
      ) as available
    from chat.agents as b
  ) as wanted
  where wanted.user_id = a.user_id
    and a.available <> wanted.available;
  get diagnostics changed = row_count;
  total := total + changed;

  update chat.assignments as a
  set released_at = clock_timestamp(),
      outcome = 'ended'
  where a.released_at is null
    and not exists (
      select from public.chat_sessions as s
      where s.id = a.session_id and s.status = 'active' and s.agent_id = a.agent_id
    );
  get diagnostics changed = row_count;
  total := total + changed;

  insert into chat.agents (user_id)
  select distinct s.agent_id
  from public.chat_sessions as s
  where s.status = 'active'
    and s.agent_id is not null
  on conflict (user_id) do nothing;
  insert into chat.assignments (session_id, agent_id, queue_id, assigned_at)
  select s.id, s.agent_id, s.queue_id, coalesce(s.agent_joined_at, s.started_at, clock_timestamp())
  from public.chat_sessions as s
  where s.status = 'active'
    and s.agent_id is not null
    and not exists (select from chat.assignments as a where a.session_id = s.id and a.released_at is null);
  get diagnostics changed = row_count;
  total := total + changed;

  for wrong in
    select a.user_id, a.capacity, count(o.id) as taken
    from chat.agents as a
    left join chat.assignments as o on o.agent_id = a.user_id and o.released_at is null
    group by a.user_id
    having a.load <> count(o.id)
  loop
    -- more than his capacity may be true, and is then let past the guard
    update chat.agents as a
    set load = wrong.taken,
        capacity = greatest(a.capacity, wrong.taken)
    where a.user_id = wrong.user_id;
    update chat.agents as a
    set capacity = wrong.capacity
    where a.user_id = wrong.user_id
      and a.capacity <> wrong.capacity;
    total := total + 1;
  end loop;
  return total;
end
$$;

revoke execute on all functions in schema chat from public;
grant execute on function chat.request_handover(uuid, uuid, uuid) to authenticated;
