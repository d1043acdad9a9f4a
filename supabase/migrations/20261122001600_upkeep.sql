-- Upkeep: what no request does. The worker calls these again and again, from as many replicas as there are: each does
-- what is due, returns how much that was, and leaves alone what another is just doing.

-- Tells each waiting session its present place. Only rows whose place changed are written, and none that somebody
-- holds: they come next time.
create function chat.refresh_positions()
returns bigint
language sql
set search_path = ''
as $$
  with places as (
    select q.session_id, row_number() over (partition by s.tenant_id order by q.queued_at, q.id) as place
    from chat.queue as q
    join public.chat_sessions as s on s.id = q.session_id
    where q.left_at is null
  ), stale as (
    select s.id, places.place
    from public.chat_sessions as s
    join places on places.session_id = s.id
    where s.status = 'waiting'
      and s.queue_position is distinct from places.place
    for no key update of s skip locked
  ), written as (
    update public.chat_sessions as s
    set queue_position = stale.place
    from stale
    where s.id = stale.id
    returning 1
  )
  select count(*) from written
$$;

-- Tells waiting customers their place: when they have joined, then only when it got better and not too often. The
-- first notice waits some seconds, as the customer's channel opens only after his start.
create function chat.tell_places()
returns bigint
language sql
set search_path = ''
as $$
  with due as (
    select q.id, q.session_id, s.queue_position, settings.place_notice
    from chat.queue as q
    join public.chat_sessions as s on s.id = q.session_id
    cross join chat.settings as settings
    where q.left_at is null
      and q.entered_at < clock_timestamp() - interval '3 seconds'
      and settings.place_notice is not null
      and s.status = 'waiting'
      and (q.told_position is null or s.queue_position < q.told_position)
      and (q.told_at is null or q.told_at < clock_timestamp() - settings.place_notice_every)
    for no key update of s, q skip locked
  ), told as (
    update chat.queue as q
    set told_position = due.queue_position,
        told_at = clock_timestamp()
    from due
    where q.id = due.id
    returning due.session_id, format(due.place_notice, due.queue_position) as notice
  ), sent as (
    insert into public.chat_messages (session_id, sender_type, message_type, message)
    select told.session_id, 'system', 'system', told.notice
    from told
    returning 1
  )
  select count(*) from sent
$$;

-- Stops those who have not typed for long: their tab is gone.
create function chat.expire_typing()
returns bigint
language sql
set search_path = ''
as $$
  with stale as (
    select t.session_id, t.user_id
    from public.chat_typing_indicators as t
    cross join chat.settings as settings
    where t.is_typing
      and t.updated_at < clock_timestamp() - settings.typing_expires
    for update of t skip locked
  ), stopped as (
    update public.chat_typing_indicators as t
    set is_typing = false,
        updated_at = clock_timestamp()
    from stale
    where t.session_id = stale.session_id
      and t.user_id = stale.user_id
    returning 1
  )
  select count(*) from stopped
$$;

-- Ends one session in which nobody has written for long; null when there is none. One at a time, because ending
-- gives the seat to the next in line.
create function chat.end_idle()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  idle uuid;
begin
  select s.id
  into idle
  from public.chat_sessions as s
  cross join chat.settings as settings
  where s.status in ('waiting', 'active')
    and s.updated_at < clock_timestamp() - settings.idle_after
    and not exists (
      select from public.chat_messages as m
      where m.session_id = s.id
        and m.created_at >= clock_timestamp() - settings.idle_after
    )
  order by s.updated_at
  limit 1
  for no key update of s skip locked;

  update public.chat_sessions as s
  set status = case when s.agent_joined_at is null then 'abandoned' else 'ended' end
  where s.id = idle;
  return idle;
end
$$;

-- Sets right what statements past the triggers (a restore, a replica role) left wrong. Changes nothing otherwise.
create function chat.reconcile()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  changed bigint;
  total bigint := 0;
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

  update chat.queue as q
  set left_at = clock_timestamp(),
      outcome = 'ended'
  from public.chat_sessions as s
  where s.id = q.session_id
    and q.left_at is null
    and s.status <> 'waiting';
  get diagnostics changed = row_count;
  total := total + changed;

  insert into chat.queue (session_id, queued_at)
  select s.id, s.started_at
  from public.chat_sessions as s
  where s.status = 'waiting'
    and not exists (select from chat.queue as q where q.session_id = s.id and q.left_at is null)
  on conflict (session_id) where left_at is null do nothing;
  get diagnostics changed = row_count;
  total := total + changed;

  -- nobody takes or leaves a seat while the agents are locked, so the count is true
  perform from chat.agents as a order by a.user_id for update;

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

  with seats as (
    select a.user_id, count(o.id) as taken
    from chat.agents as a
    left join chat.assignments as o on o.agent_id = a.user_id and o.released_at is null
    group by a.user_id
  )
  update chat.agents as a
  set load = seats.taken
  from seats
  where seats.user_id = a.user_id
    and a.load > seats.taken;
  get diagnostics changed = row_count;
  return total + changed;
end
$$;

revoke execute on all functions in schema chat from public;
