-- Measuring messages. Here and in the next file messages, legs and places keep a session's numbers as they come:
-- chat.measure finds nothing to correct.

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

revoke execute on all functions in schema chat from public;
revoke execute on function public.update_chat_session_message_count() from public, anon, authenticated, service_role;
