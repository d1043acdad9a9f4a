-- Totals: what reports are made of, kept for good. Retention deletes sessions; what they add up to stays.
--
-- Counts and sums only, never a mean or a percentile, so that rows add up to longer times and wider groups. A row is
-- a quarter of an hour (every time zone's days begin at one) in which chats started, a tenant, a queue and an agent.
-- Rows that are not `kept` can be computed again at any time from the sessions there are; a session leaves a kept
-- row when it is deleted.

create table chat.session_totals (
  quarter timestamptz not null,
  tenant_id uuid,
  queue_id uuid,
  agent_id uuid,
  kept boolean not null,
  -- what answered_within and abandoned_after were counted with
  within_seconds double precision not null,
  offered bigint not null,
  ended bigint not null,
  answered bigint not null,
  answered_within bigint not null,
  abandoned bigint not null,
  short_abandons bigint not null,
  abandoned_after bigint not null,
  missed bigint not null,
  dropped bigint not null,
  -- of those answered
  queue_seconds double precision not null,
  wait_seconds double precision not null,
  first_response_seconds double precision not null,
  reactions bigint not null,
  reaction_seconds double precision not null,
  -- of those ended
  duration_seconds double precision not null,
  active bigint not null,
  active_seconds double precision not null,
  rated bigint not null,
  -- 4 or 5
  rated_well bigint not null,
  rating bigint not null
);

create table chat.leg_totals (
  quarter timestamptz not null,
  tenant_id uuid,
  queue_id uuid,
  agent_id uuid,
  kept boolean not null,
  legs bigint not null,
  released bigint not null,
  transferred bigint not null,
  requeued bigint not null,
  unanswered bigint not null,
  handled bigint not null,
  handle_seconds double precision not null,
  latencies bigint not null,
  latency_seconds double precision not null,
  responses bigint not null,
  response_seconds double precision not null
);

create index session_totals_quarter on chat.session_totals (quarter);
create index leg_totals_quarter on chat.leg_totals (quarter);
create index chat_sessions_started on public.chat_sessions (started_at);
alter table chat.session_totals enable row level security;
alter table chat.leg_totals enable row level security;

-- Totals of the sessions that started from one moment to another, or of one of them, to keep.
create function chat.session_totals_of(
  from_instant timestamptz, to_instant timestamptz, within interval, only_session uuid default null
)
returns setof chat.session_totals
language sql
stable
set search_path = ''
as $$
  select
    chat.quarter(s.started_at),
    s.tenant_id,
    s.queue_id,
    s.agent_id,
    only_session is not null,
    extract(epoch from within)::double precision,
    count(*),
    count(*) filter (where s.ended_at is not null),
    count(*) filter (where s.agent_joined_at is not null),
    count(*) filter (
      where s.agent_joined_at is not null
        and coalesce(s.first_response_seconds, s.wait_time_seconds) <= extract(epoch from within)
    ),
    count(*) filter (where s.abandoned),
    count(*) filter (where s.abandoned and s.short_abandon),
    count(*) filter (where s.abandoned and s.ended_at - s.started_at > within),
    count(*) filter (where s.missed),
    count(*) filter (where s.dropped),
    coalesce(sum(s.queue_seconds) filter (where s.agent_joined_at is not null), 0),
    coalesce(sum(s.wait_time_seconds), 0),
    coalesce(sum(coalesce(s.first_response_seconds, s.wait_time_seconds)), 0),
    count(s.reaction_seconds),
    coalesce(sum(s.reaction_seconds), 0),
    coalesce(sum(s.chat_duration_seconds) filter (where s.ended_at is not null), 0),
    count(s.active_seconds),
    coalesce(sum(s.active_seconds), 0),
    count(s.rating),
    count(*) filter (where s.rating >= 4),
    coalesce(sum(s.rating), 0)
  from public.chat_sessions as s
  where s.started_at >= from_instant
    and s.started_at < to_instant
    and (only_session is null or s.id = only_session)
  group by chat.quarter(s.started_at), s.tenant_id, s.queue_id, s.agent_id
$$;

-- A leg's handling: from its acceptance or the agent's first message to its end.
create function chat.handle_seconds(leg chat.assignments)
returns double precision
language sql
stable
begin atomic
  select extract(epoch from leg.released_at - least(leg.accepted_at, leg.first_response_at))::double precision;
end;

-- These sessions' legs and answers, one row each; they belong to the quarter in which their chat started.
create function chat.leg_facts(from_instant timestamptz, to_instant timestamptz, only_session uuid default null)
returns table (
  quarter timestamptz, tenant_id uuid, queue_id uuid, agent_id uuid,
  legs integer, outcome text, handle_seconds double precision, latency_seconds double precision,
  response_seconds double precision
)
language plpgsql
stable
rows 100000
set search_path = ''
-- planned for one session as for a month of them
set plan_cache_mode = force_custom_plan
set jit = off
as $$
#variable_conflict use_column
begin
  return query
  with sessions as (
    select s.id, chat.quarter(s.started_at) as quarter, s.tenant_id, s.queue_id
    from public.chat_sessions as s
    where s.started_at >= from_instant
      and s.started_at < to_instant
      and (only_session is null or s.id = only_session)
  )
  select
    s.quarter, s.tenant_id, coalesce(a.queue_id, s.queue_id), a.agent_id,
    1, a.outcome, chat.handle_seconds(a), extract(epoch from a.latency)::double precision, null
  from sessions as s
  join chat.assignments as a on a.session_id = s.id
  where a.outcome is distinct from 'superseded'
  union all
  select
    s.quarter, s.tenant_id, s.queue_id, r.agent_id,
    0, null, null, null, extract(epoch from r.answered_at - r.asked_at)::double precision
  from sessions as s
  join chat.responses as r on r.session_id = s.id
  where r.answered_at is not null;
end
$$;

create function chat.leg_totals_of(
  from_instant timestamptz, to_instant timestamptz, only_session uuid default null
)
returns setof chat.leg_totals
language sql
stable
set search_path = ''
as $$
  select
    f.quarter, f.tenant_id, f.queue_id, f.agent_id,
    only_session is not null,
    sum(f.legs),
    count(f.outcome),
    count(*) filter (where f.outcome in ('transferred', 'taken_over')),
    count(*) filter (where f.outcome in ('returned', 'rejected', 'unanswered', 'lost')),
    count(*) filter (where f.outcome = 'unanswered'),
    count(f.handle_seconds),
    coalesce(sum(f.handle_seconds), 0),
    count(f.latency_seconds),
    coalesce(sum(f.latency_seconds), 0),
    count(f.response_seconds),
    coalesce(sum(f.response_seconds), 0)
  from chat.leg_facts(from_instant, to_instant, only_session) as f
  group by f.quarter, f.tenant_id, f.queue_id, f.agent_id
$$;

-- Computes totals anew for chats that started from one moment to another, in whole quarters, and replaces them. What
-- deleted sessions left is added up and stays.
create function chat.roll_up_sessions(from_instant timestamptz, to_instant timestamptz)
returns void
language sql
set search_path = ''
as $$
  with replaced as (
    delete from chat.session_totals as t
    where t.quarter >= chat.quarter(from_instant)
      and t.quarter < to_instant
    returning t.*
  )
  insert into chat.session_totals
  select *
  from chat.session_totals_of(
    chat.quarter(from_instant),
    chat.quarter(to_instant - interval '1 microsecond') + interval '15 minutes',
    (select s.service_level_within from chat.settings as s)
  )
  union all
  select
    r.quarter, r.tenant_id, r.queue_id, r.agent_id, true, r.within_seconds,
    sum(r.offered), sum(r.ended), sum(r.answered), sum(r.answered_within), sum(r.abandoned), sum(r.short_abandons),
    sum(r.abandoned_after), sum(r.missed), sum(r.dropped), sum(r.queue_seconds), sum(r.wait_seconds),
    sum(r.first_response_seconds), sum(r.reactions), sum(r.reaction_seconds), sum(r.duration_seconds), sum(r.active),
    sum(r.active_seconds), sum(r.rated), sum(r.rated_well), sum(r.rating)
  from replaced as r
  where r.kept
  group by r.quarter, r.tenant_id, r.queue_id, r.agent_id, r.within_seconds;

  with replaced as (
    delete from chat.leg_totals as t
    where t.quarter >= chat.quarter(from_instant)
      and t.quarter < to_instant
    returning t.*
  )
  insert into chat.leg_totals
  select *
  from chat.leg_totals_of(
    chat.quarter(from_instant), chat.quarter(to_instant - interval '1 microsecond') + interval '15 minutes'
  )
  union all
  select
    r.quarter, r.tenant_id, r.queue_id, r.agent_id, true,
    sum(r.legs), sum(r.released), sum(r.transferred), sum(r.requeued), sum(r.unanswered), sum(r.handled),
    sum(r.handle_seconds), sum(r.latencies), sum(r.latency_seconds), sum(r.responses), sum(r.response_seconds)
  from replaced as r
  where r.kept
  group by r.quarter, r.tenant_id, r.queue_id, r.agent_id;
$$;

-- What is to be computed anew: a list that is only added to by those who change something, so that none waits for
-- another. An index on updated_at would tell the same, at the price of every message's update in place.
create table chat.touched (
  id bigint generated always as identity primary key,
  -- where sessions changed
  quarter timestamptz,
  -- a leg that was begun
  assignment_id bigint
);

alter table chat.touched enable row level security;

-- security definer: whoever changes a session has no right to these tables.
create function chat.touch_totals()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_table_name = 'assignments' then
    insert into chat.touched (assignment_id) values (new.id);
  else
    insert into chat.touched (quarter) values (chat.quarter(new.started_at));
    if tg_op = 'UPDATE' and chat.quarter(old.started_at) <> chat.quarter(new.started_at) then
      insert into chat.touched (quarter) values (chat.quarter(old.started_at));
    end if;
  end if;
  return null;
end
$$;

create trigger chat_sessions_90_touch_totals
  after insert on public.chat_sessions
  for each row
  execute function chat.touch_totals();

-- not for messages, which change counters and updated_at only
create trigger chat_sessions_90_touch_totals_again
  after update on public.chat_sessions
  for each row
  when (
    (old.status, old.tenant_id, old.queue_id, old.agent_id, old.started_at, old.agent_joined_at, old.ended_at,
      old.rating, old.queue_seconds, old.wait_time_seconds, old.first_response_seconds, old.reaction_seconds,
      old.active_seconds, old.handle_seconds, old.chat_duration_seconds, old.abandoned, old.short_abandon, old.missed,
      old.dropped)
    is distinct from
    (new.status, new.tenant_id, new.queue_id, new.agent_id, new.started_at, new.agent_joined_at, new.ended_at,
      new.rating, new.queue_seconds, new.wait_time_seconds, new.first_response_seconds, new.reaction_seconds,
      new.active_seconds, new.handle_seconds, new.chat_duration_seconds, new.abandoned, new.short_abandon, new.missed,
      new.dropped)
  )
  execute function chat.touch_totals();

-- A leg that went over to another session is copied, not begun.
create trigger assignments_90_touch_totals
  after insert on chat.assignments
  for each row
  when (new.released_at is null)
  execute function chat.touch_totals();

-- What a deleted session adds up to stays. Rows are added, never changed, so that deletions do not wait for one
-- another; the next roll-up adds them up.
-- security definer: whoever deletes a session has no right to these tables.
create function chat.keep_totals()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  after_it timestamptz := old.started_at + interval '1 microsecond';
begin
  insert into chat.session_totals
  select *
  from chat.session_totals_of(
    old.started_at, after_it, (select s.service_level_within from chat.settings as s), old.id
  );
  insert into chat.leg_totals
  select *
  from chat.leg_totals_of(old.started_at, after_it, old.id);

  -- what another deletion holds it keeps
  update chat.agent_totals as t
  set kept = true
  where t.ctid = any(array(
    select mine.ctid
    from chat.assignments as a
    join chat.agent_totals as mine
      on mine.agent_id = a.agent_id
      and mine.quarter >= chat.quarter(a.assigned_at)
      and mine.quarter < coalesce(a.released_at, 'infinity')
    where a.session_id = old.id
      and not mine.kept
    for update of mine skip locked
  ));

  insert into chat.touched (quarter) values (chat.quarter(old.started_at));
  return old;
end
$$;

create trigger chat_sessions_90_keep_totals
  before delete on public.chat_sessions
  for each row
  execute function chat.keep_totals();

-- How far agents' time is added up, and assignments since this table was made. One row.
create table chat.rolled (
  only_row boolean primary key default true check (only_row),
  agents_until timestamptz not null,
  assignments bigint not null default 0
);

-- Assignments by latency, in buckets up to `le` seconds. Only ever grows, whatever is deleted.
create table chat.assignment_latencies (
  le double precision primary key,
  assignments bigint not null default 0,
  seconds double precision not null default 0
);

insert into chat.rolled (agents_until)
values (chat.quarter(clock_timestamp()));

insert into chat.assignment_latencies (le)
select unnest(array[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 'infinity']);

alter table chat.rolled enable row level security;
alter table chat.assignment_latencies enable row level security;

-- Computes everything anew from one moment to another.
create function chat.roll_up(from_instant timestamptz, to_instant timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('chat.roll_up', 0));
  perform chat.roll_up_sessions(from_instant, to_instant);
  perform chat.roll_up_agents(
    from_instant, least(chat.quarter(to_instant), (select r.agents_until from chat.rolled as r))
  );
end
$$;

-- The worker's part: whatever was touched since, and agents' time up to the last whole quarter of an hour. Returns
-- how much was done, a bounded part of it at a time.
create function chat.roll_up_touched()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  taken chat.touched[];
  done bigint;
  part record;
  state chat.rolled;
  due timestamptz;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('chat.roll_up', 0)) then
    return 0;
  end if;

  with gone as (
    delete from chat.touched as t
    where t.id = any(array(select o.id from chat.touched as o order by o.id limit 2000))
    returning t.*
  )
  select array_agg(row(gone.id, gone.quarter, gone.assignment_id)::chat.touched), count(*)
  into taken, done
  from gone;

  -- neighbours together
  for part in
    select min(q.quarter) as first, max(q.quarter) + interval '15 minutes' as after_last
    from (
      select t.quarter, t.quarter - interval '15 minutes' * row_number() over (order by t.quarter) as island
      from (select distinct t.quarter from unnest(taken) as t where t.quarter is not null) as t
    ) as q
    group by q.island
  loop
    perform chat.roll_up_sessions(part.first, part.after_last);
  end loop;

  update chat.rolled as r
  set assignments = r.assignments + begun.legs
  from (select count(t.assignment_id) as legs from unnest(taken) as t) as begun
  where begun.legs > 0;
  with begun as (
    select extract(epoch from a.latency)::double precision as seconds
    from unnest(taken) as t
    join chat.assignments as a on a.id = t.assignment_id
    where a.latency is not null
  ), counted as (
    select
      (select min(l.le) from chat.assignment_latencies as l where b.seconds <= l.le) as le,
      count(*) as assignments,
      sum(b.seconds) as seconds
    from begun as b
    group by 1
  )
  update chat.assignment_latencies as l
  set assignments = l.assignments + c.assignments,
      seconds = l.seconds + c.seconds
  from counted as c
  where l.le = c.le;

  select * into strict state from chat.rolled;
  -- what is under way may still be written a little later than it says
  due := least(chat.quarter(clock_timestamp() - interval '2 minutes'), state.agents_until + interval '1 day');
  if state.agents_until < due then
    perform chat.roll_up_agents(state.agents_until, due);
    update chat.rolled as r
    set agents_until = due;
    done := done + 1;
  end if;
  return done;
end
$$;

revoke execute on all functions in schema chat from public;
grant select on chat.session_totals, chat.leg_totals, chat.rolled, chat.assignment_latencies to service_role;
