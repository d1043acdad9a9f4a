-- Agents' time: when each was available and with how many seats, and what follows from that and his chats.
--
-- Time is added up by quarters of an hour, because every time zone's days begin at one.

-- What an agent said about himself, from when to when. Closed, never changed.
create table chat.agent_states (
  id bigint generated always as identity primary key,
  -- no foreign key: the history outlives the account
  agent_id uuid not null,
  -- the tenant his account named; null: he served all
  tenant_id uuid,
  since timestamptz not null,
  until timestamptz,
  available boolean not null,
  capacity integer not null,
  constraint agent_states_forward check (until >= since)
);

create unique index agent_states_one_open on chat.agent_states (agent_id) where until is null;
create index agent_states_agent on chat.agent_states (agent_id, since);
create index agent_states_until on chat.agent_states (until);
alter table chat.agent_states enable row level security;

create function chat.tenant_of(agent uuid)
returns uuid
language sql
stable
set search_path = ''
as $$
  select case
    when claim ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$' then claim::uuid
  end
  from (select u.raw_app_meta_data ->> 'tenant_id' as claim from auth.users as u where u.id = agent) as account
$$;

-- Under the agent's row lock, so his states follow one another.
-- security definer: whoever says that he is available writes no history.
create function chat.follow_agent_state()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  instant timestamptz := clock_timestamp();
  agent uuid := case tg_op when 'DELETE' then old.user_id else new.user_id end;
begin
  update chat.agent_states as a
  set until = greatest(a.since, instant)
  where a.agent_id = agent
    and a.until is null
    and (tg_op = 'DELETE' or (a.available, a.capacity) is distinct from (new.available, new.capacity));

  if tg_op <> 'DELETE' then
    insert into chat.agent_states (agent_id, tenant_id, since, available, capacity)
    values (agent, chat.tenant_of(agent), instant, new.available, new.capacity)
    on conflict (agent_id) where until is null do nothing;
  end if;
  return null;
end
$$;

create trigger agents_50_follow_state
  after insert or delete or update of available, capacity on chat.agents
  for each row
  execute function chat.follow_agent_state();

insert into chat.agent_states (agent_id, tenant_id, since, available, capacity)
select a.user_id, chat.tenant_of(a.user_id), clock_timestamp(), a.available, a.capacity
from chat.agents as a;

-- which legs reach into a span of time
create index assignments_released on chat.assignments (released_at);

-- Seconds of one agent in one quarter of an hour: sums only, so that rows add up.
create table chat.agent_totals (
  agent_id uuid not null,
  quarter timestamptz not null,
  tenant_id uuid,
  -- some of its chats are deleted: not to be computed again
  kept boolean not null default false,
  -- logged in and available
  available_seconds double precision not null,
  -- of these, with a chat open
  busy_seconds double precision not null,
  -- integral of open chats while available
  load_seconds double precision not null,
  -- integral of seats while available
  capacity_seconds double precision not null,
  -- with a chat open, available or not
  open_seconds double precision not null,
  -- integral of open chats, available or not
  chat_seconds double precision not null,
  -- handling, each second shared among the chats that were open
  handle_seconds double precision not null,
  -- most chats open at once
  concurrency_max bigint not null,
  primary key (agent_id, quarter)
);

create index agent_totals_quarter on chat.agent_totals (quarter);
alter table chat.agent_totals enable row level security;

create function chat.quarter(instant timestamptz)
returns timestamptz
language sql
immutable
begin atomic
  select date_bin('15 minutes', instant, '2000-01-01 00:00+00');
end;

-- One sweep over everything that begins or ends: between two such moments nothing changes.
create function chat.agent_time(from_instant timestamptz, to_instant timestamptz)
returns setof chat.agent_totals
language sql
stable
set search_path = ''
as $$
  with limits as (
    select from_instant as lower, least(to_instant, clock_timestamp()) as upper
  ), spans as (
    select
      a.agent_id,
      greatest(a.since, limits.lower) as lower,
      least(a.until, limits.upper) as upper,
      1 as available, a.capacity, 0 as open, 0 as handled
    from chat.agent_states as a
    cross join limits
    where a.available
      and a.since < limits.upper
      and (a.until > limits.lower or a.until is null)
    union all
    select
      a.agent_id,
      greatest(span.since, limits.lower),
      least(a.released_at, limits.upper),
      0, 0, span.open, 1 - span.open
    from chat.assignments as a
    cross join limits
    -- from being given it, he has it open; from its acceptance or his first message on, he handles it
    cross join lateral (
      values (a.assigned_at, 1), (least(a.accepted_at, a.first_response_at), 0)
    ) as span (since, open)
    where a.assigned_at < limits.upper
      and (a.released_at > limits.lower or a.released_at is null)
      and span.since < limits.upper
      -- the same time stands with the session it went over to
      and a.outcome is distinct from 'superseded'
  ), edges as (
    select s.agent_id, edge.instant, edge.sign * s.available as available, edge.sign * s.capacity as capacity,
      edge.sign * s.open as open, edge.sign * s.handled as handled
    from spans as s
    cross join lateral (values (s.lower, 1), (s.upper, -1)) as edge (instant, sign)
    where s.upper > s.lower
    union all
    select s.agent_id, mark.quarter, 0, 0, 0, 0
    from spans as s
    cross join lateral generate_series(
      chat.quarter(s.lower) + interval '15 minutes', s.upper, interval '15 minutes'
    ) as mark (quarter)
    where s.upper > s.lower
  ), moments as (
    select
      e.agent_id,
      e.instant,
      extract(epoch from lead(e.instant) over agent - e.instant)::double precision as seconds,
      sum(e.available) over agent as available,
      sum(e.capacity) over agent as capacity,
      sum(e.open) over agent as open,
      sum(e.handled) over agent as handled
    from edges as e
    window agent as (partition by e.agent_id order by e.instant rows unbounded preceding)
  )
  select
    m.agent_id,
    chat.quarter(m.instant),
    (
      select s.tenant_id
      from chat.agent_states as s
      where s.agent_id = m.agent_id
      order by s.since desc
      limit 1
    ),
    false,
    coalesce(sum(m.seconds) filter (where m.available > 0), 0),
    coalesce(sum(m.seconds) filter (where m.available > 0 and m.open > 0), 0),
    coalesce(sum(m.seconds * m.open) filter (where m.available > 0), 0),
    sum(m.seconds * m.capacity),
    coalesce(sum(m.seconds) filter (where m.open > 0), 0),
    sum(m.seconds * m.open),
    coalesce(sum(m.seconds * m.handled / m.open) filter (where m.open > 0), 0),
    max(m.open)
  from moments as m
  where m.seconds > 0
    and (m.available > 0 or m.open > 0)
  group by m.agent_id, chat.quarter(m.instant)
$$;

-- Computes agents' time anew for the quarters from one moment to another, and replaces it.
create function chat.roll_up_agents(from_instant timestamptz, to_instant timestamptz)
returns void
language plpgsql
set search_path = ''
as $$
begin
  delete from chat.agent_totals as t
  where t.quarter >= chat.quarter(from_instant)
    and t.quarter < to_instant
    and not t.kept;
  insert into chat.agent_totals
  select *
  from chat.agent_time(chat.quarter(from_instant), to_instant)
  on conflict (agent_id, quarter) do nothing;
end
$$;

revoke execute on all functions in schema chat from public;
grant select on chat.agent_states, chat.agent_totals to service_role;
