-- The line as those in it see it: their places, how long it may take, and what they are told of both.
--
-- Each queue has a line for each tenant. Its order is that of chat.queue.rank_at, which knows of priority.

alter table chat.settings
  -- what is told of a place where there is an estimate; the second %s is a number of minutes, or two: 2-4
  add column place_and_wait_notice text default 'You are number %s in the queue. Estimated wait: about %s min.',
  -- what the first in line is told
  add column next_notice text default 'You are next.',
  add constraint settings_place_notices_not_blank
    check (place_notice ~ '\S' and place_and_wait_notice ~ '\S' and next_notice ~ '\S');

comment on column chat.settings.place_notice is 'null: nothing is told of places';

-- Whom told_position was told: a place goes over to the customer's next session, which was told nothing yet.
alter table chat.queue
  add column told_session_id uuid;

create index assignments_freed on chat.assignments (queue_id, released_at) where outcome <> 'superseded';

-- Numbers each line 1, 2, 3... Only rows whose place changed are written, none that somebody holds, and of a long line
-- the first of them: a message of somebody in line waits for this. Call it until it returns 0.
create or replace function chat.refresh_positions()
returns bigint
language sql
set search_path = ''
as $$
  with places as (
    select
      q.session_id,
      row_number() over (partition by q.queue_id, q.tenant_id order by q.rank_at, q.id) as place
    from chat.queue as q
    where q.left_at is null
  ), stale as (
    select s.id, places.place
    from public.chat_sessions as s
    join places on places.session_id = s.id
    where s.status = 'waiting'
      and s.queue_position is distinct from places.place
    order by places.place
    limit 2000
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

-- How many seats come free for a queue in a second: as many as did in the last quarter of an hour, else as many as its
-- agents have in the time a chat takes. Null when too little is known.
create function chat.seats_freed_per_second(queue uuid)
returns double precision
language plpgsql
stable
set search_path = ''
as $$
declare
  enough constant integer := 20;
  freed bigint;
  duration double precision;
  seats bigint;
begin
  select count(*)
  into freed
  from chat.assignments as leg
  where leg.queue_id = queue
    and leg.outcome <> 'superseded'
    and leg.released_at > now() - interval '15 minutes';
  if freed >= enough then
    return freed / extract(epoch from interval '15 minutes');
  end if;

  select count(*), avg(extract(epoch from leg.released_at - leg.assigned_at))
  into freed, duration
  from (
    select leg.assigned_at, leg.released_at
    from chat.assignments as leg
    where leg.queue_id = queue
      and leg.outcome <> 'superseded'
    order by leg.released_at desc
    limit 100
  ) as leg;
  if freed < enough then
    return null;
  end if;
  select sum(a.capacity)
  into seats
  from chat.agents as a
  where a.available
    and queue = any (a.queues);
  return nullif(seats, 0) / nullif(duration, 0);
end
$$;

-- From when to when a place is served, in seconds. Seats come free at random: the time until the n-th is n times the
-- mean, and within the root of n of it two times in three.
create function chat.estimate_wait(place bigint, rate double precision, out low integer, out high integer)
language sql
immutable
begin atomic
  select
    floor((place - sqrt(place)) / rate)::integer,
    ceil((place + sqrt(place)) / rate)::integer
  where rate > 0 and place / rate < 86400;
end;

create function chat.in_minutes(low integer, high integer)
returns text
language sql
immutable
begin atomic
  select concat_ws('-', nullif(greatest(1, low / 60), ceil(high / 60.0)), ceil(high / 60.0));
end;

-- Puts values in the place of %s, in their order; other signs of the operator's text mean nothing.
create function chat.fill_notice(notice text, variadic given text[])
returns text
language plpgsql
immutable
set search_path = ''
as $$
declare
  value text;
begin
  foreach value in array given loop
    notice := regexp_replace(notice, '%s', value);
  end loop;
  return notice;
end
$$;

-- Tells waiting customers their place: once their channel is open, as the portal's widget shows what comes on it and
-- reads no history; then when it got better by enough to matter, and not too often. Where nobody was ever seen
-- subscribed, some seconds after the start.
create or replace function chat.tell_places()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  settings chat.settings;
  place record;
  notice text;
  told bigint := 0;
begin
  select * into strict settings from chat.settings;
  if settings.place_notice is null
    or not exists (select from chat.queue as q where q.left_at is null)
  then
    return 0;
  end if;

  for place in
    with live as materialized (
      select distinct l.user_id, l.session_id
      from chat.listeners() as l
      -- the gateway shows a subscription a moment before it serves it
      where l.session_id is not null
        and l.since < clock_timestamp() - interval '500 milliseconds'
    ), due as materialized (
      select q.id, q.session_id, q.queue_id, s.queue_position
      from chat.queue as q
      join public.chat_sessions as s on s.id = q.session_id
      where q.left_at is null
        and s.status = 'waiting'
        and s.queue_position is not null
        and (
          q.told_session_id is distinct from q.session_id
          -- nearer by a fifth, which up to the fifth place is each place
          or s.queue_position <= q.told_position * 0.8
            and q.told_at < clock_timestamp() - settings.place_notice_every
        )
        and case
          when exists (select from live) or exists (select from chat.watch as w where w.last_live_at is not null)
            then exists (select from live where (live.session_id, live.user_id) = (s.id, s.customer_id::text))
          else q.entered_at < clock_timestamp() - interval '3 seconds'
        end
      order by s.queue_position
      limit 200
      for no key update of s, q skip locked
    ), rates as materialized (
      select queues.queue_id, chat.seats_freed_per_second(queues.queue_id) as rate
      from (select distinct due.queue_id from due) as queues
    )
    select due.*, wait.low, wait.high
    from due
    left join rates on rates.queue_id = due.queue_id
    left join lateral chat.estimate_wait(due.queue_position, rates.rate) as wait on true
  loop
    notice := case
      when place.queue_position = 1 and settings.next_notice is not null then settings.next_notice
      when place.high is not null and settings.place_and_wait_notice is not null
        then chat.fill_notice(
          settings.place_and_wait_notice, place.queue_position::text, chat.in_minutes(place.low, place.high)
        )
      else chat.fill_notice(settings.place_notice, place.queue_position::text)
    end;
    update chat.queue as q
    set told_position = place.queue_position,
        told_at = clock_timestamp(),
        told_session_id = place.session_id
    where q.id = place.id;
    if notice is distinct from (
      select m.message
      from public.chat_messages as m
      where m.session_id = place.session_id
      order by m.seq desc
      limit 1
    ) then
      perform chat.tell_customer(place.session_id, notice);
    end if;
    told := told + 1;
  end loop;
  return told;
end
$$;

revoke execute on all functions in schema chat from public;
