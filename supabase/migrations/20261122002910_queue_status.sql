-- A session's place in line and how long it may take, for its customer and for staff who see it.
-- security definer: the line is not the callers' to read, nor in part their settings and agents.
create function public.chat_queue_status(session_id uuid)
returns table (
  queue_id uuid,
  queue_name text,
  queue_open boolean,
  queue_position integer,
  line_length integer,
  wait_low_seconds integer,
  wait_high_seconds integer
)
language sql
stable
security definer
set search_path = ''
as $$
  select
    queue.id, queue.name, chat.is_open_at(queue.id, now()),
    line.place::integer, line.length::integer, wait.low, wait.high
  from public.chat_sessions as s
  left join public.chat_queues as queue on queue.id = s.queue_id
  left join chat.queue as mine on mine.session_id = s.id and mine.left_at is null
  left join lateral (
    select
      count(*) filter (where (q.rank_at, q.id) <= (mine.rank_at, mine.id)) as place,
      count(*) as length
    from chat.queue as q
    where q.left_at is null
      and q.queue_id = mine.queue_id
      and q.tenant_id is not distinct from mine.tenant_id
  ) as line on mine.id is not null
  left join lateral chat.estimate_wait(line.place, chat.seats_freed_per_second(s.queue_id)) as wait on true
  where s.id = chat_queue_status.session_id
    and (
      auth.uid() in (s.customer_id, s.agent_id)
      or chat.leads(s.tenant_id)
      or s.status = 'waiting'
        and (chat.serves_all_tenants() or s.tenant_id = chat.served_tenant())
        and s.queue_id = any (chat.served_queues())
      or coalesce(auth.role(), 'service_role') = 'service_role'
    )
$$;

revoke execute on function public.chat_queue_status(uuid) from public, anon;
grant execute on function public.chat_queue_status(uuid) to authenticated, service_role;
