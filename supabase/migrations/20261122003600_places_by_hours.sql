-- Places are told while the queue is open. Out of hours the desk says that it is closed (2900): a place and a wait beside
-- it would promise that somebody comes.

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
    ), open as materialized (
      select queues.queue_id
      from (select distinct q.queue_id from chat.queue as q where q.left_at is null) as queues
      where chat.is_open_at(queues.queue_id, clock_timestamp())
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
        and exists (select from open where open.queue_id is not distinct from q.queue_id)
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
