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

  -- a session that reopened in the very moment in which its queue was changed
  perform chat.move_place(s)
  from chat.queue as q
  join public.chat_sessions as s on s.id = q.session_id
  cross join lateral chat.place_for(s, q.queued_at) as place
  where q.left_at is null
    and (q.queue_id, q.rank_at, q.required_skills) is distinct from (place.queue_id, place.rank_at, place.required_skills);
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
