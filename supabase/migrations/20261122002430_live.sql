-- The desk as it is now: for dashboards and monitoring.

create type chat.live_row as (
  tenant_id uuid, queue_id uuid, queue_name text,
  waiting bigint, longest_wait_seconds double precision, active bigint,
  agents_available bigint, seats_total bigint, seats_free bigint,
  offered_today bigint, abandoned_today bigint, service_level_15m double precision
);

-- One row for each queue, and for each tenant that has open chats in it. Seats and agents are those who may serve the
-- queue; one who serves several counts in each.
create function chat.live_state()
returns setof chat.live_row
language sql
stable
set search_path = ''
as $$
  with settings as (
    select
      s.service_level_within as within,
      date_trunc('day', now() at time zone s.report_time_zone) at time zone s.report_time_zone as today
    from chat.settings as s
  ), open as (
    select
      s.tenant_id, s.queue_id,
      count(*) filter (where s.agent_id is null) as waiting,
      count(*) filter (where s.agent_id is not null) as active
    from public.chat_sessions as s
    where s.status in ('waiting', 'active')
    group by s.tenant_id, s.queue_id
  ), line as (
    select s.tenant_id, s.queue_id, extract(epoch from clock_timestamp() - min(q.entered_at)) as longest
    from chat.queue as q
    join public.chat_sessions as s on s.id = q.session_id
    where q.left_at is null
    group by s.tenant_id, s.queue_id
  ), today as (
    select
      s.tenant_id, s.queue_id,
      count(*) filter (where s.started_at >= settings.today) as offered,
      count(*) filter (where s.abandoned and s.started_at >= settings.today) as abandoned,
      count(*) filter (
        where s.started_at >= now() - interval '15 minutes'
          and s.agent_joined_at is not null
          and coalesce(s.first_response_seconds, s.wait_time_seconds) <= extract(epoch from settings.within)
      ) as answered_within,
      count(*) filter (
        where s.started_at >= now() - interval '15 minutes'
          and (s.agent_joined_at is not null or s.abandoned and s.ended_at - s.started_at > settings.within)
      ) as level_of
    from public.chat_sessions as s
    cross join settings
    where s.started_at >= least(settings.today, now() - interval '15 minutes')
    group by s.tenant_id, s.queue_id
  ), desks as (
    select q.tenant_id, q.id as queue_id from public.chat_queues as q
    union
    select o.tenant_id, o.queue_id from open as o
    union
    select t.tenant_id, t.queue_id from today as t where t.offered > 0
  ), agents as (
    select a.user_id, a.capacity, greatest(a.capacity - a.load, 0) as free, chat.tenant_of(a.user_id) as tenant_id
    from chat.agents as a
    where a.available
  ), seats as (
    select d.tenant_id, d.queue_id, count(*) as agents, sum(a.capacity) as total, sum(a.free) as free
    from desks as d
    join agents as a on a.tenant_id is null or a.tenant_id = d.tenant_id
    where exists (
        select from public.chat_queue_members as m where m.queue_id = d.queue_id and m.agent_id = a.user_id
      )
      or not exists (select from public.chat_queue_members as m where m.queue_id = d.queue_id)
    group by d.tenant_id, d.queue_id
  )
  select
    d.tenant_id, d.queue_id, q.name,
    coalesce(o.waiting, 0), coalesce(l.longest, 0)::double precision, coalesce(o.active, 0),
    coalesce(s.agents, 0), coalesce(s.total, 0)::bigint, coalesce(s.free, 0)::bigint,
    coalesce(t.offered, 0), coalesce(t.abandoned, 0),
    t.answered_within::double precision / nullif(t.level_of, 0)
  from desks as d
  left join public.chat_queues as q on q.id = d.queue_id
  left join open as o on (o.tenant_id, o.queue_id) is not distinct from (d.tenant_id, d.queue_id)
  left join line as l on (l.tenant_id, l.queue_id) is not distinct from (d.tenant_id, d.queue_id)
  left join today as t on (t.tenant_id, t.queue_id) is not distinct from (d.tenant_id, d.queue_id)
  left join seats as s on (s.tenant_id, s.queue_id) is not distinct from (d.tenant_id, d.queue_id)
  order by d.tenant_id nulls first, q.name
$$;

-- The same for staff: the tenant they serve, and the queues of every tenant.
-- security definer: it counts what its reader may not read.
create function public.chat_live()
returns setof chat.live_row
language plpgsql
stable
security definer
set search_path = ''
as $$
#variable_conflict use_column
declare
  everything boolean := auth.role() = 'service_role'
    or auth.role() is null and session_user <> 'authenticator'
    or chat.serves_all_tenants();
begin
  if not everything and not chat.is_staff() then
    raise exception 'the desk is for staff' using errcode = 'insufficient_privilege';
  end if;
  return query
  select l.*
  from chat.live_state() as l
  where everything
    or l.tenant_id = chat.served_tenant();
end
$$;

-- What a scrape of the monitoring reads, in one answer.
create function chat.gauges()
returns jsonb
language sql
stable
set search_path = ''
as $$
  select jsonb_build_object(
    'queues', coalesce((
      select jsonb_agg(jsonb_build_object(
        'tenant', coalesce(l.tenant_id::text, ''),
        'queue', coalesce(l.queue_name, ''),
        'waiting', l.waiting,
        'longest_wait_seconds', l.longest_wait_seconds,
        'active', l.active
      ))
      from chat.live_state() as l
    ), '[]'),
    'agents_available', (select count(*) from chat.agents as a where a.available),
    'seats', (select coalesce(sum(a.capacity), 0) from chat.agents as a where a.available),
    'seats_free', (
      select coalesce(sum(greatest(a.capacity - a.load, 0)), 0) from chat.agents as a where a.available
    ),
    'typing', (select count(*) from public.chat_typing_indicators as t where t.is_typing),
    'assignments', r.assignments,
    'latencies', (
      select jsonb_agg(
        jsonb_build_object(
          'le', case when l.le < 'infinity' then l.le end, 'assignments', l.assignments, 'seconds', l.seconds
        )
        order by l.le
      )
      from chat.assignment_latencies as l
    )
  )
  from chat.rolled as r
$$;

revoke execute on all functions in schema chat from public;
revoke execute on function public.chat_live() from public, anon;
grant execute on function public.chat_live() to authenticated, service_role;
