-- Reports. docs/metrics.md has the formulas.

alter table chat.settings
  -- where a report's days begin, unless it says so itself
  add column report_time_zone text not null default 'UTC';

create type chat.report_row as (
  hour timestamptz, day date, week date, month date, agent_id uuid, queue_id uuid, tenant_id uuid,
  offered bigint, answered bigint, ended bigint,
  abandoned bigint, short_abandons bigint, abandon_rate double precision, abandon_rate_of bigint,
  missed bigint, dropped bigint,
  service_level double precision, service_level_of bigint,
  asa double precision,
  wait_mean double precision, wait_p50 double precision, wait_p90 double precision,
  first_response_mean double precision, first_response_p50 double precision, first_response_p90 double precision,
  reaction_mean double precision, reaction_p50 double precision, reaction_p90 double precision,
  responses bigint,
  response_mean double precision, response_p50 double precision, response_p90 double precision,
  duration_mean double precision, duration_p50 double precision, duration_p90 double precision,
  active_mean double precision, active_p50 double precision, active_p90 double precision,
  handled bigint, handle_mean double precision, handle_p50 double precision, handle_p90 double precision,
  handle_weighted_mean double precision,
  rated bigint, response_rate double precision, csat double precision, rating_mean double precision,
  legs bigint, transfer_rate double precision, requeue_rate double precision, non_response_rate double precision,
  assign_latency_ms_p50 double precision, assign_latency_ms_p99 double precision,
  available_seconds double precision, occupancy double precision, utilisation double precision,
  concurrency_avg double precision, concurrency_max bigint
);

-- The report itself, for whoever may have it. `queue`, `agent` and `tenant` narrow it down; null: all.
--
-- Sums come from totals, percentiles from the sessions themselves: of a group some of whose sessions are deleted
-- there is none, as a part's would pass for the whole's. `exact` computes totals from the sessions there are, and
-- takes only those of deleted ones as they were kept; without it all are read as the worker last added them up.
create function chat.report(
  from_instant timestamptz, to_instant timestamptz, by text[], zone text, queue uuid, agent uuid, tenant uuid,
  within interval, count_all_abandons boolean, exact boolean
)
returns setof chat.report_row
language plpgsql
stable
set search_path = ''
-- planned for this span of time: a plan for any visits the whole calendar for each session
set plan_cache_mode = force_custom_plan
-- compiling it takes seconds, whatever there is to count
set jit = off
-- what a month holds is sorted and hashed in memory
set work_mem = '64MB'
as $$
#variable_conflict use_column
begin
  return query
  with wanted as materialized (
    select
      'agent' = any(by) as by_agent, 'queue' = any(by) as by_queue, 'tenant' = any(by) as by_tenant,
      -- stands for null, which no join finds
      '00000000-0000-0000-0000-000000000000'::uuid as nobody
  ), calendar as materialized (
    select
      q.quarter,
      -- counted back from the quarter, so that an hour which the clocks repeat is two
      case
        when 'hour' = any(by) then q.quarter - make_interval(mins => extract(minute from l.time)::integer)
        else '-infinity'
      end as hour,
      case when 'day' = any(by) then l.time::date else '-infinity' end as day,
      case when 'week' = any(by) then date_trunc('week', l.time)::date else '-infinity' end as week,
      case when 'month' = any(by) then date_trunc('month', l.time)::date else '-infinity' end as month
    from generate_series(
      chat.quarter(from_instant), to_instant - interval '1 microsecond', interval '15 minutes'
    ) as q (quarter)
    cross join lateral (select q.quarter at time zone zone as time) as l
  ), session_sums as (
    select
      c.hour, c.day, c.week, c.month,
      coalesce(case when g.by_agent then t.agent_id end, g.nobody) as agent_id,
      coalesce(case when g.by_queue then t.queue_id end, g.nobody) as queue_id,
      coalesce(case when g.by_tenant then t.tenant_id end, g.nobody) as tenant_id,
      sum(t.offered) as offered, sum(t.ended) as ended, sum(t.answered) as answered,
      sum(t.abandoned) as abandoned, sum(t.short_abandons) as short_abandons,
      sum(t.missed) as missed, sum(t.dropped) as dropped,
      -- counted with another limit, they cannot be counted again
      case when bool_and(t.within_seconds = extract(epoch from within)) then sum(t.answered_within) end
        as answered_within,
      case when bool_and(t.within_seconds = extract(epoch from within)) then sum(t.abandoned_after) end
        as abandoned_after,
      sum(t.queue_seconds) as queue_seconds, sum(t.wait_seconds) as wait_seconds,
      sum(t.first_response_seconds) as first_response_seconds,
      sum(t.reactions) as reactions, sum(t.reaction_seconds) as reaction_seconds,
      sum(t.duration_seconds) as duration_seconds, sum(t.active) as active, sum(t.active_seconds) as active_seconds,
      sum(t.rated) as rated, sum(t.rated_well) as rated_well, sum(t.rating) as rating,
      exact and not bool_or(t.kept) as whole
    from (
      select * from chat.session_totals_of(from_instant, to_instant, within) where exact
      union all
      select *
      from chat.session_totals as t
      where t.quarter >= from_instant and t.quarter < to_instant and (t.kept or not exact)
    ) as t
    join calendar as c on c.quarter = t.quarter
    cross join wanted as g
    where (queue is null or t.queue_id = queue)
      and (agent is null or t.agent_id = agent)
      and (tenant is null or t.tenant_id = tenant)
    group by 1, 2, 3, 4, 5, 6, 7
  ), session_ranks as (
    select
      c.hour, c.day, c.week, c.month,
      coalesce(case when g.by_agent then s.agent_id end, g.nobody) as agent_id,
      coalesce(case when g.by_queue then s.queue_id end, g.nobody) as queue_id,
      coalesce(case when g.by_tenant then s.tenant_id end, g.nobody) as tenant_id,
      percentile_cont(array[0.5, 0.9]) within group (order by s.wait_time_seconds) as wait,
      percentile_cont(array[0.5, 0.9]) within group (
        order by coalesce(s.first_response_seconds, s.wait_time_seconds)
      ) as first_response,
      percentile_cont(array[0.5, 0.9]) within group (order by s.reaction_seconds) as reaction,
      percentile_cont(array[0.5, 0.9]) within group (order by s.chat_duration_seconds)
        filter (where s.ended_at is not null) as duration,
      percentile_cont(array[0.5, 0.9]) within group (order by s.active_seconds) as active
    from public.chat_sessions as s
    join calendar as c on c.quarter = chat.quarter(s.started_at)
    cross join wanted as g
    where exact
      and s.started_at >= from_instant
      and s.started_at < to_instant
      and (queue is null or s.queue_id = queue)
      and (agent is null or s.agent_id = agent)
      and (tenant is null or s.tenant_id = tenant)
    group by 1, 2, 3, 4, 5, 6, 7
  ), leg_sums as (
    select
      c.hour, c.day, c.week, c.month,
      coalesce(case when g.by_agent then t.agent_id end, g.nobody) as agent_id,
      coalesce(case when g.by_queue then t.queue_id end, g.nobody) as queue_id,
      coalesce(case when g.by_tenant then t.tenant_id end, g.nobody) as tenant_id,
      sum(t.legs) as legs, sum(t.released) as released, sum(t.transferred) as transferred,
      sum(t.requeued) as requeued, sum(t.unanswered) as unanswered,
      sum(t.handled) as handled, sum(t.handle_seconds) as handle_seconds,
      sum(t.responses) as responses, sum(t.response_seconds) as response_seconds,
      exact and not bool_or(t.kept) as whole
    from (
      select * from chat.leg_totals_of(from_instant, to_instant) where exact
      union all
      select *
      from chat.leg_totals as t
      where t.quarter >= from_instant and t.quarter < to_instant and (t.kept or not exact)
    ) as t
    join calendar as c on c.quarter = t.quarter
    cross join wanted as g
    where (queue is null or t.queue_id = queue)
      and (agent is null or t.agent_id = agent)
      and (tenant is null or t.tenant_id = tenant)
    group by 1, 2, 3, 4, 5, 6, 7
  ), leg_ranks as (
    select
      c.hour, c.day, c.week, c.month,
      coalesce(case when g.by_agent then f.agent_id end, g.nobody) as agent_id,
      coalesce(case when g.by_queue then f.queue_id end, g.nobody) as queue_id,
      coalesce(case when g.by_tenant then f.tenant_id end, g.nobody) as tenant_id,
      percentile_cont(array[0.5, 0.9]) within group (order by f.handle_seconds) as handle,
      percentile_cont(array[0.5, 0.99]) within group (order by f.latency_seconds * 1000) as latency_ms,
      percentile_cont(array[0.5, 0.9]) within group (order by f.response_seconds) as response
    from chat.leg_facts(from_instant, to_instant) as f
    join calendar as c on c.quarter = f.quarter
    cross join wanted as g
    where exact
      and (queue is null or f.queue_id = queue)
      and (agent is null or f.agent_id = agent)
      and (tenant is null or f.tenant_id = tenant)
    group by 1, 2, 3, 4, 5, 6, 7
  ), agent_sums as (
    select
      c.hour, c.day, c.week, c.month,
      coalesce(case when g.by_agent then t.agent_id end, g.nobody) as agent_id,
      g.nobody as queue_id,
      coalesce(case when g.by_tenant then t.tenant_id end, g.nobody) as tenant_id,
      sum(t.available_seconds) as available_seconds, sum(t.busy_seconds) as busy_seconds,
      sum(t.load_seconds) as load_seconds, sum(t.capacity_seconds) as capacity_seconds,
      sum(t.open_seconds) as open_seconds, sum(t.chat_seconds) as chat_seconds,
      sum(t.handle_seconds) as handle_seconds, max(t.concurrency_max) as concurrency_max
    from chat.rolled as r
    cross join lateral (
      select *
      from chat.agent_totals as t
      where t.quarter >= from_instant and t.quarter < least(to_instant, r.agents_until)
      union all
      select *
      from chat.agent_time(greatest(from_instant, r.agents_until), to_instant)
      where r.agents_until < to_instant
    ) as t
    join calendar as c on c.quarter = t.quarter
    cross join wanted as g
    -- an agent's time is not one queue's
    where queue is null
      and not g.by_queue
      and (agent is null or t.agent_id = agent)
      and (tenant is null or t.tenant_id = tenant)
    group by 1, 2, 3, 4, 5, 6, 7
  ), groups as (
    select hour, day, week, month, agent_id, queue_id, tenant_id from session_sums
    union
    select hour, day, week, month, agent_id, queue_id, tenant_id from leg_sums
    union
    select hour, day, week, month, agent_id, queue_id, tenant_id from agent_sums
    union
    -- a total is there even of nothing
    select '-infinity', '-infinity', '-infinity', '-infinity', g.nobody, g.nobody, g.nobody
    from wanted as g
    where by = '{}'
  )
  select
    nullif(g.hour, '-infinity'), nullif(g.day, '-infinity'), nullif(g.week, '-infinity'),
    nullif(g.month, '-infinity'),
    nullif(g.agent_id, k.nobody), nullif(g.queue_id, k.nobody), nullif(g.tenant_id, k.nobody),
    coalesce(s.offered, 0)::bigint, coalesce(s.answered, 0)::bigint, coalesce(s.ended, 0)::bigint,
    coalesce(s.abandoned, 0)::bigint, coalesce(s.short_abandons, 0)::bigint,
    (s.abandoned - s.short_abandons)::double precision / nullif(s.answered + s.abandoned - s.short_abandons, 0),
    coalesce(s.answered + s.abandoned - s.short_abandons, 0)::bigint,
    coalesce(s.missed, 0)::bigint, coalesce(s.dropped, 0)::bigint,
    s.answered_within::double precision / nullif(level.denominator, 0),
    coalesce(level.denominator, 0)::bigint,
    s.queue_seconds / nullif(s.answered, 0)::double precision,
    s.wait_seconds / nullif(s.answered, 0)::double precision, sr.wait[1], sr.wait[2],
    s.first_response_seconds / nullif(s.answered, 0)::double precision, sr.first_response[1], sr.first_response[2],
    s.reaction_seconds / nullif(s.reactions, 0)::double precision, sr.reaction[1], sr.reaction[2],
    coalesce(l.responses, 0)::bigint,
    l.response_seconds / nullif(l.responses, 0)::double precision, lr.response[1], lr.response[2],
    s.duration_seconds / nullif(s.ended, 0)::double precision, sr.duration[1], sr.duration[2],
    s.active_seconds / nullif(s.active, 0)::double precision, sr.active[1], sr.active[2],
    coalesce(l.handled, 0)::bigint,
    l.handle_seconds / nullif(l.handled, 0)::double precision, lr.handle[1], lr.handle[2],
    a.handle_seconds / nullif(l.handled, 0)::double precision,
    coalesce(s.rated, 0)::bigint,
    s.rated::double precision / nullif(s.ended, 0),
    s.rated_well::double precision / nullif(s.rated, 0),
    s.rating::double precision / nullif(s.rated, 0),
    coalesce(l.legs, 0)::bigint,
    l.transferred::double precision / nullif(l.released, 0),
    l.requeued::double precision / nullif(l.released, 0),
    l.unanswered::double precision / nullif(l.released, 0),
    lr.latency_ms[1], lr.latency_ms[2],
    a.available_seconds,
    a.busy_seconds / nullif(a.available_seconds, 0),
    a.load_seconds / nullif(a.capacity_seconds, 0),
    a.chat_seconds / nullif(a.open_seconds, 0),
    a.concurrency_max::bigint
  from groups as g
  cross join wanted as k
  left join session_sums as s
    on (s.hour, s.day, s.week, s.month, s.agent_id, s.queue_id, s.tenant_id)
    = (g.hour, g.day, g.week, g.month, g.agent_id, g.queue_id, g.tenant_id)
  left join session_ranks as sr
    on (sr.hour, sr.day, sr.week, sr.month, sr.agent_id, sr.queue_id, sr.tenant_id)
    = (s.hour, s.day, s.week, s.month, s.agent_id, s.queue_id, s.tenant_id)
    and s.whole
  left join leg_sums as l
    on (l.hour, l.day, l.week, l.month, l.agent_id, l.queue_id, l.tenant_id)
    = (g.hour, g.day, g.week, g.month, g.agent_id, g.queue_id, g.tenant_id)
  left join leg_ranks as lr
    on (lr.hour, lr.day, lr.week, lr.month, lr.agent_id, lr.queue_id, lr.tenant_id)
    = (l.hour, l.day, l.week, l.month, l.agent_id, l.queue_id, l.tenant_id)
    and l.whole
  left join agent_sums as a
    on (a.hour, a.day, a.week, a.month, a.agent_id, a.queue_id, a.tenant_id)
    = (g.hour, g.day, g.week, g.month, g.agent_id, g.queue_id, g.tenant_id)
  cross join lateral (
    select s.answered + case when count_all_abandons then s.abandoned else s.abandoned_after end as denominator
  ) as level
  order by g.hour, g.day, g.week, g.month, g.tenant_id, g.queue_id, g.agent_id;
end
$$;

-- Whose report the caller may have: narrows agent and tenant down, or refuses. Database sessions of nobody's and the
-- service role may have all, leads their tenant's, agents their own.
create function chat.report_scope(inout agent uuid, inout tenant uuid)
language plpgsql
stable
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
begin
  if auth.role() = 'service_role'
    or auth.role() is null and session_user <> 'authenticator'
    or chat.leads_all_tenants()
  then
    return;
  elsif chat.is_lead() then
    if tenant <> chat.led_tenant() then
      raise exception 'this tenant''s report is not yours' using errcode = 'insufficient_privilege';
    end if;
    tenant := chat.led_tenant();
  elsif chat.is_staff() then
    if agent <> caller then
      raise exception 'this agent''s report is not yours' using errcode = 'insufficient_privilege';
    end if;
    agent := caller;
  else
    raise exception 'reports are for staff' using errcode = 'insufficient_privilege';
  end if;
end
$$;

-- What clients call: supabase.rpc('chat_report', { from: '2026-11-01', to: '2026-12-01', by: ['agent', 'day'] }).
-- security definer: a report counts what its reader may not read; it asks for itself whose he may have.
create function public.chat_report(
  "from" timestamptz,
  "to" timestamptz,
  by text[] default '{}',
  time_zone text default null,
  queue uuid default null,
  agent uuid default null,
  tenant uuid default null,
  answer_within interval default null,
  count_all_abandons boolean default false,
  exact boolean default true
)
returns setof chat.report_row
language plpgsql
stable
security definer
set search_path = ''
as $$
#variable_conflict use_variable
declare
  settings chat.settings := (select s from chat.settings as s);
  zone text := coalesce(time_zone, settings.report_time_zone);
  within interval := coalesce(answer_within, settings.service_level_within);
  word text;
begin
  select * into agent, tenant from chat.report_scope(agent, tenant);
  if "from" is null or "to" is null then
    raise exception '"from" and "to" are needed' using errcode = 'null_value_not_allowed';
  elsif "from" >= "to" then
    raise exception '"from" must be before "to"' using errcode = 'invalid_parameter_value';
  elsif "to" - "from" > interval '1100 days' then
    raise exception 'a report is of three years at most' using errcode = 'invalid_parameter_value';
  end if;
  foreach word in array coalesce(by, '{}') loop
    if word is null or word not in ('hour', 'day', 'week', 'month', 'agent', 'queue', 'tenant') then
      raise exception 'cannot group by %', coalesce(quote_literal(word), 'null')
        using errcode = 'invalid_parameter_value', hint = 'hour, day, week, month, agent, queue, tenant';
    end if;
  end loop;
  -- looking into the list of time zones would read all their files
  begin
    perform "from" at time zone zone;
  exception
    when invalid_parameter_value then
      raise exception 'unknown time zone %', quote_literal(zone) using errcode = 'invalid_parameter_value';
  end;

  return query
  select *
  from chat.report(
    "from", "to", coalesce(by, '{}'), zone, queue, agent, tenant, within,
    coalesce(count_all_abandons, false), coalesce(exact, true)
  );
end
$$;

revoke execute on all functions in schema chat from public;
revoke execute on function public.chat_report(
  timestamptz, timestamptz, text[], text, uuid, uuid, uuid, interval, boolean, boolean
) from public, anon;
grant execute on function public.chat_report(
  timestamptz, timestamptz, text[], text, uuid, uuid, uuid, interval, boolean, boolean
) to authenticated, service_role;
