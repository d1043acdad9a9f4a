-- What time does to a session: no answer, and overflow. Each function does one session's worth and returns it, null when
-- nothing is due.

create index assignments_open on chat.assignments (assigned_at) where released_at is null;

-- Who was given a session and says nothing loses it to the next one. Who types is about to say something.
create function chat.requeue_unanswered()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  unanswered uuid;
begin
  select s.id
  into unanswered
  from chat.assignments as a
  join public.chat_sessions as s on s.id = a.session_id
  join public.chat_queues as q on q.id = s.queue_id
  where a.released_at is null
    and a.assigned_at < clock_timestamp() - q.answer_within
    and s.status = 'active'
    and not chat.has_answered(s.id)
    and not exists (
      select from public.chat_typing_indicators as t
      where t.session_id = s.id
        and t.user_id = a.agent_id
        and t.is_typing
    )
  order by a.assigned_at
  limit 1
  for no key update of s skip locked;

  if unanswered is not null and not chat.has_answered(unanswered) then
    perform chat.requeue(unanswered, 'unanswered');
  end if;
  return unanswered;
end
$$;

-- Who waited too long goes over to the queue that stands in, with the time he waited, and to none twice.
create function chat.overflow_next()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  overdue uuid;
  target uuid;
begin
  select s.id, wanted.overflow_queue_id
  into overdue, target
  from chat.queue as q
  join public.chat_sessions as s on s.id = q.session_id
  join public.chat_queues as wanted on wanted.id = q.queue_id
  where q.left_at is null
    and wanted.overflow_queue_id is not null
    and q.queue_since < clock_timestamp() - wanted.overflow_after
    and s.status = 'waiting'
    and chat.queue_for(wanted.overflow_queue_id, s.tenant_id) = wanted.overflow_queue_id
    and not exists (
      select from chat.events as e
      where e.session_id = s.id
        and e.kind in ('queued', 'overflowed')
        and e.queue_id = wanted.overflow_queue_id
    )
  order by q.rank_at, q.id
  limit 1
  for no key update of s skip locked;

  if overdue is not null then
    perform chat.because('overflowed');
    update public.chat_sessions as s
    set queue_id = target
    where s.id = overdue
      and s.status = 'waiting';
    perform chat.because(null);
  end if;
  return overdue;
end
$$;

revoke execute on all functions in schema chat from public;
