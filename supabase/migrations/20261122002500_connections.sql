-- Who is connected, and what follows when somebody is gone.
--
-- realtime.subscription lists the live subscriptions, on a Supabase as here. It is read, never relied on: where it is
-- missing, may not be read or is empty, nobody is gone. Gone is only who was seen before: a desk that uses no realtime
-- keeps its agents and its customers.

alter table chat.settings
  -- an agent gone for so long is offline, and who waits for his answer goes back to the head of the line; null: never
  add column agent_lost_after interval default '1 minute' check (agent_lost_after >= interval '30 seconds'),
  -- a customer in line gone for so long has left; null: never
  add column waiting_lost_after interval default '2 minutes' check (waiting_lost_after >= interval '30 seconds'),
  -- a customer in a chat gone for so long, who waits for no answer, has left; null: never. Longer, as a phone in a
  -- pocket loses its connection.
  add column customer_lost_after interval default '15 minutes' check (customer_lost_after >= interval '30 seconds');

-- When an agent was found to be gone; null: he is here, or was never seen.
alter table chat.agents
  add column lost_at timestamptz;

-- Customers seen listening to their open session. Not on the session's row, each change of which is told to everybody
-- who follows it.
create table chat.connections (
  session_id uuid primary key references public.chat_sessions (id) on delete cascade,
  seen_at timestamptz not null
) with (fillfactor = 70);

-- The last look. One row.
create table chat.watch (
  only_row boolean primary key default true check (only_row),
  looked_at timestamptz,
  -- since when there were looks without a gap, and at each somebody was connected. Whoever is gone has had since then
  -- to come back.
  steady_since timestamptz,
  -- when somebody was connected last
  last_live_at timestamptz
);

insert into chat.watch default values;

alter table chat.connections enable row level security;
alter table chat.watch enable row level security;
grant all on chat.connections, chat.watch to service_role;

-- Who is subscribed to anything, and to which session's messages. Nobody, where that cannot be told.
-- A user stands here as his token names him, which need not be by an id of ours; a filter's value has been read as an
-- id by whoever took the subscription. plpgsql, because a database may lack the table.
create function chat.listeners()
returns table (user_id text, session_id uuid, since timestamptz)
language plpgsql
stable
set search_path = ''
rows 1000
as $$
begin
  return query
  select
    l.claims ->> 'sub',
    case
      when l.entity = 'public.chat_messages'::regclass then (
        select f.value::uuid
        from unnest(l.filters) as f
        where f.column_name = 'session_id'
          and f.op::text = 'eq'
          and f.value like '________-____-____-____-____________'
        limit 1
      )
    end,
    l.created_at at time zone 'utc'
  from realtime.subscription as l
  where l.claims ->> 'sub' is not null;
exception
  when invalid_schema_name or undefined_table or undefined_column or insufficient_privilege then
    null;
end
$$;

-- Looks who is there and sets it down, for who was there ten seconds ago not again. Returns how much it wrote.
create function chat.watch_connections()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  instant timestamptz := clock_timestamp();
  watch chat.watch;
  present bigint;
  gone bigint;
  written bigint;
begin
  select * into watch from chat.watch for update skip locked;
  if not found then
    return 0;  -- another worker is just looking
  end if;

  with live as materialized (
    select l.user_id, l.session_id from chat.listeners() as l
  ), people as materialized (
    select distinct live.user_id from live
  ), chats as materialized (
    select distinct s.id
    from live
    join public.chat_sessions as s on s.id = live.session_id and s.customer_id::text = live.user_id
    where s.status in ('waiting', 'active')
  ), agents_seen as (
    update chat.agents as a
    set last_seen_at = instant,
        lost_at = null
    where a.user_id = any (array(
      select seen.user_id
      from chat.agents as seen
      join people on people.user_id = seen.user_id::text
      where seen.lost_at is not null
        or seen.last_seen_at is null
        or seen.last_seen_at < instant - interval '10 seconds'
      for no key update of seen skip locked  -- who is just given a chat is seen next time
    ))
    returning 1
  ), chats_seen as (
    insert into chat.connections as c (session_id, seen_at)
    select chats.id, instant
    from chats
    where not exists (
      select from chat.connections as known
      where known.session_id = chats.id
        and known.seen_at >= instant - interval '10 seconds'
    )
    on conflict (session_id) do update set seen_at = excluded.seen_at
    returning 1
  ), chats_over as (
    delete from chat.connections as c
    where c.session_id = any (array(
      select over.session_id
      from chat.connections as over
      join public.chat_sessions as s on s.id = over.session_id
      where s.status not in ('waiting', 'active')
      for update of over skip locked
    ))
    returning 1
  ), vanished as (
    select from chat.agents as a
    where a.last_seen_at > instant - interval '1 minute'
      and not exists (select from people where people.user_id = a.user_id::text)
    union all
    select from chat.connections as c
    where c.seen_at > instant - interval '1 minute'
      and not exists (select from chats where chats.id = c.session_id)
      and exists (
        select from public.chat_sessions as s where s.id = c.session_id and s.status in ('waiting', 'active')
      )
  )
  select
    (select count(*) from people),
    (select count(*) from vanished),
    (select count(*) from agents_seen) + (select count(*) from chats_seen) + (select count(*) from chats_over)
  into present, gone, written;

  -- When all are gone, or most at once, it was the service that went: they get their time from its return.
  update chat.watch as w
  set looked_at = instant,
      last_live_at = case when present > 0 then instant else w.last_live_at end,
      steady_since = case
        when present = 0 then null
        when gone >= 5 and gone > present then instant
        when watch.looked_at < instant - interval '30 seconds' then instant
        else coalesce(watch.steady_since, instant)
      end;
  return written;
end
$$;

-- Whoever was last seen before this is gone for so long; null: that cannot be told now.
create function chat.gone_since(time_allowed interval)
returns timestamptz
language sql
volatile
set search_path = ''
as $$
  select w.looked_at - time_allowed
  from chat.watch as w
  where w.looked_at > clock_timestamp() - interval '30 seconds'
    and w.steady_since <= w.looked_at - time_allowed
$$;

-- Takes from lost agents what waits for them: one step at a time, as each gives a place or a seat. Returns 0 when
-- nothing is left to do.
create function chat.release_lost()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  gone_since timestamptz := chat.gone_since((select s.agent_lost_after from chat.settings as s));
  agent uuid;
  session uuid;
begin
  -- Nothing new comes to him, and when he is back he says himself that he is available.
  select a.user_id
  into agent
  from chat.agents as a
  where a.lost_at is null
    and a.last_seen_at < gone_since
  limit 1;
  if agent is not null then
    update public.support_agents as a
    set status = 'offline'
    where a.user_id = agent
      and a.status <> 'offline';
    update chat.agents as a
    set lost_at = clock_timestamp()
    where a.user_id = agent
      and a.lost_at is null;
    return 1;
  end if;

  -- Whom he owes a word goes back to the head of the line; the others stay his until they write. Who made himself
  -- available again without realtime is there.
  select s.id
  into session
  from chat.agents as a
  join public.chat_sessions as s on s.agent_id = a.user_id and s.status = 'active'
  join chat.assignments as leg on leg.session_id = s.id and leg.agent_id = a.user_id and leg.released_at is null
  left join public.support_agents as desk on desk.user_id = a.user_id
  where a.lost_at is not null
    and gone_since is not null
    and coalesce(desk.status, 'offline') = 'offline'
    and (leg.first_response_at is null or s.unanswered_since is not null)
  order by s.started_at
  limit 1
  for no key update of s skip locked;
  if session is null then
    return 0;
  end if;
  perform chat.requeue(session, 'lost');
  return 1;
end
$$;

-- Ends one session whose customer is gone; null when there is none. One at a time, because ending gives the seat to the
-- next in line.
create function chat.end_lost()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  gone_waiting timestamptz := chat.gone_since((select s.waiting_lost_after from chat.settings as s));
  gone_served timestamptz := chat.gone_since((select s.customer_lost_after from chat.settings as s));
  lost uuid;
begin
  select s.id
  into lost
  from chat.connections as c
  join public.chat_sessions as s on s.id = c.session_id
  where s.status = 'waiting' and c.seen_at < gone_waiting
    or s.status = 'active' and c.seen_at < gone_served
      -- who waits for an answer may come back for it
      and s.unanswered_since is null
  order by c.seen_at
  limit 1
  for no key update of s skip locked;

  perform chat.because('lost');
  update public.chat_sessions as s
  set status = case when s.agent_joined_at is null then 'abandoned' else 'ended' end
  where s.id = lost;
  perform chat.because(null);
  return lost;
end
$$;

-- Stops those who have not typed for long, and those who were connected and no longer are: their tab is gone.
create or replace function chat.expire_typing()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  stopped bigint;
begin
  if not exists (select from public.chat_typing_indicators as t where t.is_typing) then
    return 0;
  end if;

  with live as materialized (
    select distinct l.user_id from chat.listeners() as l
  )
  update public.chat_typing_indicators as t
  set is_typing = false,
      updated_at = clock_timestamp()
  where t.id = any (array(
    select stale.id
    from public.chat_typing_indicators as stale
    cross join chat.settings as settings
    where stale.is_typing
      and (
        stale.updated_at < clock_timestamp() - settings.typing_expires
        or exists (select from live)
          and not exists (select from live where live.user_id = stale.user_id::text)
          and exists (
            select from chat.agents as a
            where a.user_id = stale.user_id and a.last_seen_at is not null
            union all
            select from chat.connections as c
            join public.chat_sessions as s on s.id = c.session_id
            where c.session_id = stale.session_id and s.customer_id = stale.user_id
          )
      )
    for update of stale skip locked
  ));
  get diagnostics stopped = row_count;
  return stopped;
end
$$;

revoke execute on all functions in schema chat from public;
