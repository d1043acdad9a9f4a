-- Business hours: when a queue's desk is open. They refuse nobody: who starts outside them is served by whoever is
-- there, and is told that the desk is closed.

alter table public.chat_queues
  -- what the hours are in, as Europe/Berlin
  add column time_zone text not null default 'UTC',
  -- what a customer is told who starts while the queue is closed; null: what the settings say
  add column out_of_hours_notice text,
  add constraint chat_queues_out_of_hours_notice_length check (char_length(out_of_hours_notice) <= 4000),
  add constraint chat_queues_out_of_hours_notice_not_blank check (out_of_hours_notice ~ '\S');

alter table chat.settings
  -- null: nothing
  add column out_of_hours_notice text
    default 'We are closed at the moment. Leave us a message, and we will answer when we are back.';

-- Names only: an abbreviation or an offset knows no summer time.
create function chat.check_time_zone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not exists (select from pg_timezone_names as z where z.name = new.time_zone) then
    raise exception 'there is no time zone %', new.time_zone
      using errcode = 'check_violation', constraint = 'chat_queues_time_zone';
  end if;
  return new;
end
$$;

-- on insert and on change alone: the list of names is read from files
create trigger chat_queues_20_check_time_zone
  before insert on public.chat_queues
  for each row
  when (new.time_zone <> 'UTC')
  execute function chat.check_time_zone();

create trigger chat_queues_20_check_changed_time_zone
  before update of time_zone on public.chat_queues
  for each row
  when (new.time_zone <> old.time_zone)
  execute function chat.check_time_zone();

-- A week. A queue without a row is open always; spans that touch or overlap are one.
create table public.chat_business_hours (
  queue_id uuid not null references public.chat_queues (id) on delete cascade,
  -- as ISO has it: 1 is Monday, 7 Sunday
  weekday smallint not null,
  opens time not null,
  -- 24:00 is the day's end; earlier than `opens`: on the next day
  closes time not null,
  primary key (queue_id, weekday, opens),
  constraint chat_business_hours_weekday check (weekday between 1 and 7),
  constraint chat_business_hours_opens_before_midnight check (opens < '24:00'),
  constraint chat_business_hours_not_empty check (closes <> opens)
);

-- Days that are not as the week has it: closed, or open from `opens` to `closes` instead. A span of the evening before
-- that runs into such a day is the evening's.
create table public.chat_holidays (
  queue_id uuid not null references public.chat_queues (id) on delete cascade,
  day date not null,
  name text not null,
  opens time,
  closes time,
  primary key (queue_id, day),
  constraint chat_holidays_name_length check (char_length(name) between 1 and 255),
  constraint chat_holidays_opens_and_closes check ((opens is null) = (closes is null)),
  constraint chat_holidays_opens_before_midnight check (opens < '24:00'),
  constraint chat_holidays_not_empty check (closes <> opens)
);

alter table public.chat_business_hours enable row level security;
alter table public.chat_holidays enable row level security;

-- The times a queue is open that begin on days of its own zone: from the day before `since` (whose last span may run
-- past midnight) to that of `until`.
create function chat.open_times(queue uuid, since timestamptz, until timestamptz)
returns tstzmultirange
language sql
stable
set search_path = ''
as $$
  select coalesce(range_agg(tstzrange(span.opens_at, span.closes_at)), '{}')
  from public.chat_queues as q
  cross join lateral generate_series(
    ((since at time zone q.time_zone)::date - 1)::timestamp,
    (until at time zone q.time_zone)::date::timestamp,
    interval '1 day'
  ) as days (day)
  left join public.chat_holidays as h on h.queue_id = q.id and h.day = days.day::date
  cross join lateral (
    select h.opens, h.closes
    where h.opens is not null
    union all
    select b.opens, b.closes
    from public.chat_business_hours as b
    where h.day is null
      and b.queue_id = q.id
      and b.weekday = extract(isodow from days.day)
    union all
    select '00:00', '24:00'
    where h.day is null
      and not exists (select from public.chat_business_hours as b where b.queue_id = q.id)
  ) as hours
  cross join lateral (
    select
      (days.day + hours.opens) at time zone q.time_zone as opens_at,
      (days.day + hours.closes + case when hours.closes < hours.opens then interval '1 day' else '0' end)
        at time zone q.time_zone as closes_at
  ) as span
  where q.id = queue
    and span.opens_at < span.closes_at  -- a span within the hour that spring leaves out
$$;

-- No queue, or none that there is, is open: nothing says that it is closed.
create function chat.is_open_at(queue uuid, instant timestamptz)
returns boolean
language sql
stable
set search_path = ''
as $$
  select case
    when exists (select from public.chat_queues as q where q.id = queue)
      then chat.open_times(queue, instant, instant) @> instant
    else true
  end
$$;

-- For the page a chat is started from: whether a queue is open, until when, or from when again, and what to say
-- meanwhile. Without an id the default queue of the caller's tenant; nulls where there is no such queue.
-- security definer: for callers who may see no queue; tells nothing else.
create function public.chat_queue_open(
  queue_id uuid default null,
  out is_open boolean,
  out opens_at timestamptz,   -- when it is closed; null: not within a quarter of a year
  out closes_at timestamptz,  -- when it is open; null: likewise
  out notice text             -- when it is closed
)
language sql
stable
security definer
set search_path = ''
as $$
  with queue as (
    select q.id, q.out_of_hours_notice
    from public.chat_queues as q
    where case
      when chat_queue_open.queue_id is not null then q.id = chat_queue_open.queue_id
      else q.is_default and (q.tenant_id is null or q.tenant_id = chat.claimed_tenant())
    end
    order by q.tenant_id nulls last
    limit 1
  ), times as (
    select
      queue.*,
      now() as instant,
      chat.open_times(queue.id, now(), now() + interval '92 days') as open
    from queue
  ), told as (
    select
      times.open @> times.instant as is_open,
      (
        select min(lower(span))
        from unnest(times.open) as spans (span)
        where lower(span) > times.instant
      ) as opens_at,
      (
        select upper(span)
        from unnest(times.open) as spans (span)
        where span @> times.instant
          and upper(span) < times.instant + interval '91 days'
      ) as closes_at,
      coalesce(times.out_of_hours_notice, (select s.out_of_hours_notice from chat.settings as s)) as notice
    from times
  )
  select
    told.is_open,
    case when not told.is_open then told.opens_at end,
    told.closes_at,
    case when not told.is_open then told.notice end
  from told
$$;

-- Notes who started while his queue was closed, and tells those who are still here: once their channel is open, as
-- chat.tell_places does, or after a minute without. Not long after the start, when no worker ran for a while: he has his
-- answer by then, or is gone.
create function chat.tell_out_of_hours()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  session record;
  told bigint := 0;
begin
  -- one worker at a time: who waited for another's row would not see that it was told
  if not pg_try_advisory_xact_lock(hashtextextended('chat.out_of_hours', 0)) then
    return 0;
  end if;

  for session in
    with queues as materialized (
      select
        q.id,
        coalesce(q.out_of_hours_notice, settings.out_of_hours_notice) as notice,
        chat.open_times(q.id, clock_timestamp() - interval '10 minutes', clock_timestamp()) as open
      from public.chat_queues as q
      cross join chat.settings as settings
      where exists (select from public.chat_business_hours as b where b.queue_id = q.id)
        or exists (select from public.chat_holidays as h where h.queue_id = q.id)
    ), live as materialized (
      select distinct l.user_id, l.session_id
      from chat.listeners() as l
      -- the gateway shows a subscription a moment before it serves it
      where exists (select from queues)
        and l.session_id is not null
        and l.since < clock_timestamp() - interval '500 milliseconds'
    )
    select s as started, queues.notice
    from public.chat_sessions as s
    join queues on queues.id = s.queue_id
    where s.created_at > clock_timestamp() - interval '10 minutes'
      and s.started_at > clock_timestamp() - interval '10 minutes'
      and not queues.open @> s.started_at
      and not exists (
        select from chat.events as e
        where e.session_id = s.id and e.kind = 'out_of_hours'
      )
      and case
        when not chat.is_open(s.status) or s.started_at < clock_timestamp() - interval '1 minute' then true
        when exists (select from live) or exists (select from chat.watch as w where w.last_live_at is not null)
          then exists (select from live where (live.session_id, live.user_id) = (s.id, s.customer_id::text))
        else s.started_at < clock_timestamp() - interval '3 seconds'
      end
    order by s.created_at
    limit 100
    for no key update of s skip locked
  loop
    perform chat.record(session.started, 'out_of_hours', queue => (session.started).queue_id);
    if chat.is_open((session.started).status) then
      perform chat.tell_customer((session.started).id, session.notice);
    end if;
    told := told + 1;
  end loop;
  return told;
end
$$;

revoke all on public.chat_business_hours, public.chat_holidays from anon, authenticated;
grant select, insert, update, delete on public.chat_business_hours, public.chat_holidays to authenticated;
grant all on public.chat_business_hours, public.chat_holidays to service_role;

-- As the queues themselves: who sees one sees its hours, if he is staff; who may change one sets them.

create policy "Staff see business hours"
  on public.chat_business_hours for select
  to authenticated
  using (
    (select chat.is_staff())
    and exists (select from public.chat_queues as q where q.id = chat_business_hours.queue_id)
  );

create policy "Leads set business hours"
  on public.chat_business_hours for all
  to authenticated
  using (exists (
    select from public.chat_queues as q
    where q.id = chat_business_hours.queue_id
      and ((select chat.leads_all_tenants()) or q.tenant_id = (select chat.led_tenant()))
  ));

create policy "Staff see holidays"
  on public.chat_holidays for select
  to authenticated
  using (
    (select chat.is_staff())
    and exists (select from public.chat_queues as q where q.id = chat_holidays.queue_id)
  );

create policy "Leads set holidays"
  on public.chat_holidays for all
  to authenticated
  using (exists (
    select from public.chat_queues as q
    where q.id = chat_holidays.queue_id
      and ((select chat.leads_all_tenants()) or q.tenant_id = (select chat.led_tenant()))
  ));

revoke execute on all functions in schema chat from public;
revoke execute on function public.chat_queue_open(uuid) from public;
grant execute on function public.chat_queue_open(uuid) to anon, authenticated, service_role;
