-- Measuring: messages, legs and places keep a session's numbers as they come. chat.measure finds nothing to correct.

-- A message counts on its session's row, in one update.
-- security definer: the sender has no right to write what he sets in motion here.
create or replace function public.update_chat_session_message_count()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  session record;
  marked integer;
begin
  if new.sender_type = 'system' then
    update public.chat_sessions as s
    set messages_count = s.messages_count + 1,
        updated_at = now()
    where s.id = new.session_id;
    return null;
  end if;

  -- Nobody changes it from here to the commit: chat.place_message has locked it. What is known of it is worked out
  -- before the update, where an expression costs several times as much.
  select
    s.status, s.started_at, s.ended_at, s.customer_id, s.agent_id, s.assigned_at, s.agent_joined_at,
    s.agent_answered_at, s.wait_time_seconds, s.first_response_seconds, s.reaction_seconds, s.active_seconds,
    s.unread_by_agent, s.unread_by_customer, s.unanswered_since, s.last_message_at, s.last_message_by
  into session
  from public.chat_sessions as s
  where s.id = new.session_id;

  -- Who writes in a chat has read what the other side wrote before. History, brought in by somebody who may, is as
  -- read as it says.
  if new.sender_type = 'customer' then
    if session.unread_by_customer > 0 and new.sender_id = session.customer_id and new.created_at >= now() then
      marked := chat.mark_messages(new.session_id, 'agent', session.unread_by_customer, at_time => new.created_at);
      session.unread_by_customer := session.unread_by_customer - marked;
    end if;
    if new.is_read is not true then
      session.unread_by_agent := session.unread_by_agent + 1;
    end if;
  else
    if session.unread_by_agent > 0 and new.sender_id = session.agent_id and new.created_at >= now() then
      marked := chat.mark_messages(new.session_id, 'customer', session.unread_by_agent, at_time => new.created_at);
      session.unread_by_agent := session.unread_by_agent - marked;
    end if;
    if new.is_read is not true then
      session.unread_by_customer := session.unread_by_customer + 1;
    end if;
  end if;

  if new.created_at < session.last_message_at then
    -- earlier than what was counted already: see chat.measure_insertion
    perform set_config(
      'chat.unmeasured', concat_ws(' ', current_setting('chat.unmeasured', true), new.session_id), true
    );
  end if;
  session.active_seconds := coalesce(session.active_seconds, 0)
    + chat.active_gap(session.last_message_by, session.last_message_at, new.created_at);

  if new.sender_type = 'customer' then
    update public.chat_sessions as s
    set messages_count = s.messages_count + 1,
        unanswered_since = coalesce(session.unanswered_since, new.created_at),
        active_seconds = session.active_seconds,
        last_message_at = new.created_at,
        last_message_by = new.sender_type,
        unread_by_agent = session.unread_by_agent,
        unread_by_customer = session.unread_by_customer,
        updated_at = now()
    where s.id = new.session_id;

  else
    if session.agent_joined_at is null then
      session.agent_joined_at := new.created_at;
      session.wait_time_seconds := chat.seconds(new.created_at - session.started_at);
      session.first_response_seconds := chat.seconds(
        new.created_at - coalesce(session.unanswered_since, session.started_at)
      );
      if session.agent_id is not null then
        session.reaction_seconds := chat.seconds(new.created_at - session.assigned_at);
      end if;
    end if;
    if new.sender_id = session.agent_id and session.agent_answered_at is null then
      session.agent_answered_at := new.created_at;
      update chat.assignments as a
      set accepted_at = coalesce(a.accepted_at, new.created_at),
          first_response_at = coalesce(a.first_response_at, new.created_at)
      where a.session_id = new.session_id
        and a.agent_id = new.sender_id
        and a.released_at is null;
    end if;
    if new.created_at >= session.unanswered_since then
      insert into chat.responses (session_id, asked_at, answered_at, agent_id)
      values (new.session_id, session.unanswered_since, new.created_at, new.sender_id)
      on conflict do nothing;
    end if;
    update public.chat_sessions as s
    set messages_count = s.messages_count + 1,
        agent_joined_at = session.agent_joined_at,
        agent_answered_at = session.agent_answered_at,
        wait_time_seconds = session.wait_time_seconds,
        first_response_seconds = session.first_response_seconds,
        reaction_seconds = session.reaction_seconds,
        unanswered_since = null,
        active_seconds = session.active_seconds,
        last_message_at = new.created_at,
        last_message_by = new.sender_type,
        unread_by_agent = session.unread_by_agent,
        unread_by_customer = session.unread_by_customer,
        updated_at = now()
    where s.id = new.session_id;
  end if;

  update public.chat_typing_indicators as t
  set is_typing = false,
      updated_at = clock_timestamp()
  where t.session_id = new.session_id
    and t.user_id = new.sender_id
    and t.is_typing;

  -- written after the end; what was written before it and comes now is history
  if new.sender_type = 'customer' and not chat.is_open(session.status) and new.created_at > session.ended_at then
    perform chat.answer_late_message(new.session_id);
  end if;
  return null;
end
$$;

-- Messages brought in out of order are measured when all of their statement are in.
-- security definer, as all below: counters, legs and metrics are not the callers' to write.
create function chat.measure_insertion()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  unmeasured constant text := trim(current_setting('chat.unmeasured', true));
begin
  if unmeasured <> '' then
    perform set_config('chat.unmeasured', '', true);
    perform chat.measure_sessions(string_to_array(unmeasured, ' ')::uuid[]);
  end if;
  return null;
end
$$;

create trigger chat_messages_30_measure_insertion
  after insert on public.chat_messages
  for each statement
  execute function chat.measure_insertion();

-- Other changes of messages: read, carried to another session, deleted. Sessions are locked in order, as one
-- statement may touch many.

create function chat.count_reading()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  change record;
begin
  if current_setting('chat.reading', true) = 'counted' then
    return null;
  end if;
  for change in
    select
      m.session_id,
      sum(m.sign) <> 0 as carried,
      coalesce(sum(m.sign) filter (where m.sender_type = 'customer' and m.is_read is not true), 0) as by_agent,
      coalesce(sum(m.sign) filter (where m.sender_type = 'agent' and m.is_read is not true), 0) as by_customer
    from (
      select a.session_id, a.sender_type, a.is_read, 1 as sign from after as a
      union all
      select b.session_id, b.sender_type, b.is_read, -1 from before as b
    ) as m
    group by m.session_id
    order by m.session_id
  loop
    if change.carried then
      perform chat.measure(change.session_id);
    else
      update public.chat_sessions as s
      set unread_by_agent = s.unread_by_agent + change.by_agent,
          unread_by_customer = s.unread_by_customer + change.by_customer
      where s.id = change.session_id
        and (change.by_agent <> 0 or change.by_customer <> 0);
      if change.by_agent < 0 and auth.uid() is not null then
        perform chat.accept(change.session_id, auth.uid());
      end if;
    end if;
  end loop;
  return null;
end
$$;

create trigger chat_messages_30_count_reading
  after update on public.chat_messages
  referencing old table as before new table as after
  for each statement
  execute function chat.count_reading();

-- What was measured stays when messages go; what is unread is counted among those that are there.
create function chat.count_deletion()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  change record;
begin
  for change in
    select
      m.session_id,
      count(*) filter (where m.sender_type = 'customer') as by_agent,
      count(*) filter (where m.sender_type = 'agent') as by_customer
    from before as m
    where m.is_read is not true
    group by m.session_id
    order by m.session_id
  loop
    update public.chat_sessions as s
    set unread_by_agent = s.unread_by_agent - change.by_agent,
        unread_by_customer = s.unread_by_customer - change.by_customer
    where s.id = change.session_id;
  end loop;
  return null;
end
$$;

create trigger chat_messages_30_count_deletion
  after delete on public.chat_messages
  referencing old table as before
  for each statement
  execute function chat.count_deletion();

-- Who types has opened the chat.
create function chat.accept_by_typing()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform chat.accept(new.session_id, new.user_id);
  return null;
end
$$;

create trigger chat_typing_30_accept
  after insert or update on public.chat_typing_indicators
  for each row
  when (new.is_typing)
  execute function chat.accept_by_typing();

-- The session's row. Its legs and places may be written before or after it: what they will say is anticipated here,
-- and put right by theirs if the clock went on by a second between.

create function chat.assigned_since(session uuid, agent uuid)
returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select coalesce(a.carried_at, a.assigned_at)
    from chat.assignments as a
    where a.session_id = session
      and a.agent_id = agent
      and a.released_at is null
  );
end
$$;

create function chat.measure_start()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if new.agent_id is not null then
    new.assigned_at := chat.assigned_since(new.id, new.agent_id);
  end if;
  new.queue_seconds := coalesce(chat.queue_seconds(new.id, clock_timestamp()), 0);
  return new;
end
$$;

create trigger chat_sessions_25_measure_start
  before insert on public.chat_sessions
  for each row
  when (new.status in ('waiting', 'active'))
  execute function chat.measure_start();

create function chat.measure_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  was_open constant boolean := chat.is_open(old.status);
begin
  if not chat.is_open(new.status) then
    if was_open then
      new.queue_seconds := coalesce(chat.queue_seconds(new.id, new.ended_at), new.queue_seconds);
      new.handle_seconds := coalesce(chat.handle_seconds(new.id, new.ended_at), new.handle_seconds);
    end if;
    new.abandoned := new.status = 'abandoned' and new.agent_joined_at is null;
    new.short_abandon := new.abandoned
      and chat.is_short(new.id, new.started_at, new.unanswered_since, new.ended_at);
    new.missed := new.abandoned and new.assigned_at is not null;
    if was_open then
      new.dropped := new.unanswered_since is not null;
    end if;
    return new;
  end if;

  if not was_open then
    new.abandoned := null;
    new.short_abandon := null;
    new.missed := null;
    new.dropped := null;
  end if;
  if new.agent_id is distinct from old.agent_id or not was_open then
    new.agent_answered_at := null;
    if new.agent_id is not null then
      new.assigned_at := coalesce(chat.assigned_since(new.id, new.agent_id), clock_timestamp());
      new.queue_seconds := coalesce(chat.queue_seconds(new.id, clock_timestamp()), new.queue_seconds);
    end if;
  end if;
  return new;
end
$$;

create trigger chat_sessions_25_measure_update
  before update on public.chat_sessions
  for each row
  when ((old.status, old.agent_id) is distinct from (new.status, new.agent_id))
  execute function chat.measure_update();

-- A session that is being deleted frees its seat and its place, and cannot be written any more.
create function chat.measure_no_more()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform set_config('chat.deleting', old.id::text, true);
  return old;
end
$$;

create trigger chat_sessions_25_measure_no_more
  before delete on public.chat_sessions
  for each row
  execute function chat.measure_no_more();

create function chat.is_being_deleted(session uuid)
returns boolean
language sql
stable
set search_path = ''
begin atomic
  select coalesce(current_setting('chat.deleting', true) = session::text, false);
end;

-- Legs.

-- A leg that follows its session's row begins when that was written.
create function chat.begin_leg()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  since timestamptz;
begin
  if new.outcome = 'superseded' then
    -- what stays behind of a leg that went over to the customer's new session
    select case when s.assigned_at > new.assigned_at then s.assigned_at end
    into new.carried_at
    from public.chat_sessions as s
    where s.id = new.session_id;
    select min(m.created_at)
    into new.first_response_at
    from public.chat_messages as m
    where m.session_id = new.session_id
      and m.sender_type = 'agent'
      and m.sender_id = new.agent_id
      and m.created_at >= coalesce(new.carried_at, new.assigned_at);
    select a.accepted_at
    into new.accepted_at
    from chat.assignments as a
    where a.agent_id = new.agent_id
      and a.assigned_at = new.assigned_at
      and a.released_at is null;
  elsif new.released_at is null then
    select s.assigned_at
    into since
    from public.chat_sessions as s
    where s.id = new.session_id
      and s.agent_id = new.agent_id
      and chat.is_open(s.status);
    if since is not null then
      new.assigned_at := since;
    elsif found then
      update public.chat_sessions as s
      set assigned_at = new.assigned_at
      where s.id = new.session_id;
    end if;
  end if;
  return new;
end
$$;

create trigger assignments_20_begin
  before insert on chat.assignments
  for each row
  execute function chat.begin_leg();

create function chat.carry_leg()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  new.carried_at := clock_timestamp();
  new.first_response_at := null;
  return new;
end
$$;

create trigger assignments_20_carry
  before update of session_id on chat.assignments
  for each row
  when (old.session_id <> new.session_id)
  execute function chat.carry_leg();

create function chat.measure_leg()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if not chat.is_being_deleted(new.session_id) then
    update public.chat_sessions as s
    set handle_seconds = chat.handle_seconds(s.id),
        transfers_count = legs.transfers,
        requeues_count = legs.requeues
    from chat.ended_legs as legs
    where s.id = new.session_id
      and legs.session_id = new.session_id
      and (s.handle_seconds, s.transfers_count, s.requeues_count)
        is distinct from (chat.handle_seconds(s.id), legs.transfers, legs.requeues);
  end if;
  return null;
end
$$;

create trigger assignments_30_measure
  after update of released_at, outcome on chat.assignments
  for each row
  when (new.released_at is not null)
  execute function chat.measure_leg();

-- Places.

create function chat.measure_place()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if not chat.is_being_deleted(new.session_id) then
    update public.chat_sessions as s
    set queue_seconds = chat.queue_seconds(s.id)
    where s.id = new.session_id
      and s.queue_seconds is distinct from chat.queue_seconds(s.id);
  end if;
  return null;
end
$$;

create trigger queue_30_measure
  after update of left_at on chat.queue
  for each row
  when (new.left_at is not null)
  execute function chat.measure_place();

-- What was there before.
do $$
begin
  perform chat.measure_sessions(array(select s.id from public.chat_sessions as s));
end
$$;

revoke execute on all functions in schema chat from public;
revoke execute on function public.update_chat_session_message_count() from public, anon, authenticated, service_role;
