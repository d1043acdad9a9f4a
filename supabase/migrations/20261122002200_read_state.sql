-- Who has read what: counters on the session, and one call that marks.
--
-- There is no index on unread messages. The counters say how many there are, so a walk back through the session's
-- history stops at the oldest unread one; and as no index names is_read, a message that is read is updated in place.

alter table public.chat_sessions
  -- messages of the other side that each has not read
  add column unread_by_agent integer not null default 0,
  add column unread_by_customer integer not null default 0;

-- each message is written twice: when it is said and when it is read
alter table public.chat_messages set (fillfactor = 90);

-- Locks a session for a reader who holds some of its messages already. False when that takes long: somebody may be
-- waiting for these very messages (chat.carry_messages), and a start goes before a mark.
create function chat.lock_session(session uuid)
returns boolean
language plpgsql
security definer  -- the reader has no right to lock
set search_path = ''
set lock_timeout = '200ms'  -- well below the usual deadlock_timeout, which might end somebody else
as $$
begin
  perform from public.chat_sessions as s where s.id = session for no key update skip locked;
  if not found then
    perform from public.chat_sessions as s where s.id = session for no key update;
  end if;
  return true;
exception
  when lock_not_available then
    return false;
end
$$;

-- The one thing a reader may change: that he has read it. What changes nothing is not written, so that nobody hears
-- of it: a client may mark everything, each time it is looked at.
create or replace function chat.reduce_reading()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  reads boolean := new.is_read and old.is_read is not true;
  kept public.chat_messages := old;
begin
  if row_security_active('public.chat_messages') then
    if reads is not true or not chat.lock_session(old.session_id) then
      return null;
    end if;
    kept.is_read := true;
    kept.read_at := clock_timestamp();
    return kept;
  end if;

  if reads and new.read_at is null then
    new.read_at := clock_timestamp();
  end if;
  return new;
end
$$;

-- The agent's first sign of life in this session, if it is that: he read, typed or wrote.
create function chat.accept(session uuid, agent uuid)
returns void
language plpgsql  -- which keeps its plan
set search_path = ''
as $$
begin
  update chat.assignments as a
  set accepted_at = clock_timestamp()
  where a.session_id = accept.session
    and a.agent_id = accept.agent
    and a.released_at is null
    and a.accepted_at is null;
end
$$;

-- Marks the unread messages of one side as read, up to a message and with it, and returns how many. The caller has
-- locked the session and counts himself. Messages that somebody else holds are passed over: he marks them.
create function chat.mark_messages(
  session uuid, of_side text, unread integer, up_to public.chat_messages default null, at_time timestamptz default null
)
returns integer
language plpgsql
set search_path = ''
-- the walk back stops early; a plan made for any number of messages would sort them all
set enable_sort = off
set enable_bitmapscan = off
as $$
declare
  marked integer;
begin
  if up_to.id is not null then
    unread := unread - (
      select count(*)
      from public.chat_messages as m
      where m.session_id = session
        and (m.created_at, m.seq) > (up_to.created_at, up_to.seq)
        and m.sender_type = of_side
        and m.is_read is not true
    );
  end if;

  perform set_config('chat.reading', 'counted', true);
  update public.chat_messages as m
  set is_read = true,
      read_at = coalesce(at_time, clock_timestamp())
  where m.id = any (array(
    select u.id
    from public.chat_messages as u
    where u.session_id = session
      and u.sender_type = of_side
      and u.is_read is not true
      and (up_to.id is null or (u.created_at, u.seq) <= (up_to.created_at, up_to.seq))
    order by u.created_at desc, u.seq desc
    limit greatest(unread, 0)
    for no key update skip locked
  ));
  get diagnostics marked = row_count;
  perform set_config('chat.reading', '', true);
  return marked;
end
$$;

-- Marks what the other side wrote as read, up to a message and with it, or all of it; returns how many were unread.
-- A lead who only looks on reads for nobody: nothing changes, and the answer is 0.
-- security definer: asks for itself whether the caller takes part; counters and legs are not his to write.
create function public.mark_read(session_id uuid, up_to uuid default null)
returns integer
language plpgsql
security definer
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
  session record;
  last public.chat_messages;
  marked integer := 0;
begin
  -- the session before its messages, as everywhere
  select s.customer_id, s.agent_id, s.tenant_id, s.unread_by_agent, s.unread_by_customer
  into session
  from public.chat_sessions as s
  where s.id = mark_read.session_id
    and (
      s.customer_id = caller
      or s.agent_id = caller
      or caller is not null and chat.leads(s.tenant_id)
    )
  for no key update;
  if not found then
    raise exception 'session % is not yours to read', mark_read.session_id
      using errcode = 'insufficient_privilege', hint = 'Its customer and its agent mark messages as read.';
  end if;

  if mark_read.up_to is not null then
    select *
    into last
    from public.chat_messages as m
    where m.id = mark_read.up_to
      and m.session_id = mark_read.session_id;
    if not found then
      raise exception 'message % is not in session %', mark_read.up_to, mark_read.session_id
        using errcode = 'invalid_parameter_value';
    end if;
  end if;

  if caller = session.agent_id then
    perform chat.accept(mark_read.session_id, caller);
    if session.unread_by_agent > 0 then
      marked := chat.mark_messages(mark_read.session_id, 'customer', session.unread_by_agent, last);
      update public.chat_sessions as s
      set unread_by_agent = s.unread_by_agent - marked
      where s.id = mark_read.session_id
        and marked > 0;
    end if;
  elsif caller = session.customer_id and session.unread_by_customer > 0 then
    marked := chat.mark_messages(mark_read.session_id, 'agent', session.unread_by_customer, last);
    update public.chat_sessions as s
    set unread_by_customer = s.unread_by_customer - marked
    where s.id = mark_read.session_id
      and marked > 0;
  end if;
  return marked;
end
$$;

revoke execute on all functions in schema chat from public;
revoke execute on function public.mark_read(uuid, uuid) from public, anon, service_role;
grant execute on function public.mark_read(uuid, uuid) to authenticated;
grant execute on function chat.lock_session(uuid) to authenticated, service_role;
