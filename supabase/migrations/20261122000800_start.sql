-- A start: one open session a customer, given to an agent or put in line in its own transaction.

-- One open session a customer.

-- Closes a customer's other open session and gives its seat or its place in line to `session`. Returns the agent
-- who came along.
create function chat.supersede(customer uuid, session uuid)
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  earlier uuid;
  agent uuid;
begin
  select s.id
  into earlier
  from public.chat_sessions as s
  where s.customer_id = customer
    and s.id <> session
    and s.status in ('waiting', 'active')
  for no key update;
  if earlier is null then
    return null;
  end if;

  with seat as (
    update chat.assignments as a
    set session_id = session
    where a.session_id = earlier
      and a.released_at is null
    returning a.agent_id, a.assigned_at
  ), history as (
    insert into chat.assignments (session_id, agent_id, assigned_at, released_at, outcome)
    select earlier, seat.agent_id, seat.assigned_at, clock_timestamp(), 'superseded'
    from seat
  )
  select seat.agent_id
  into agent
  from seat;

  update chat.queue as q
  set session_id = session
  where q.session_id = earlier
    and q.left_at is null;

  insert into chat.events (session_id, kind, actor, actor_id, other_session_id)
  values (earlier, 'superseded', 'customer', customer, session);

  update public.chat_sessions as s
  set status = 'ended'
  where s.id = earlier;
  return agent;
end
$$;

-- What the customer wrote and nobody answered follows him from the sessions that this one superseded.
create function chat.carry_messages(to_session uuid)
returns void
language plpgsql
set search_path = ''
as $$
begin
  with carried as (
    update public.chat_messages as m
    set session_id = to_session
    from chat.events as e
    where e.other_session_id = to_session
      and e.kind = 'superseded'
      and m.session_id = e.session_id
      and m.sender_type = 'customer'
      and m.is_read is not true
      and not exists (
        select from public.chat_messages as answer
        where answer.session_id = m.session_id
          and answer.sender_type = 'agent'
          and answer.seq > m.seq
      )
    returning e.session_id as from_session
  ), counts as (
    select from_session as session_id, -count(*) as change from carried group by from_session
    union all
    select to_session, count(*) from carried
  )
  update public.chat_sessions as s
  set messages_count = s.messages_count + counts.change
  from counts
  where s.id = counts.session_id
    and counts.change <> 0;
end
$$;

create function chat.tell_customer(session uuid, notice text)
returns void
language sql
set search_path = ''
as $$
  insert into public.chat_messages (session_id, sender_type, message_type, message)
  select session, 'system', 'system', notice
  where notice is not null
$$;

-- The start.
--
-- security definer, as everything below: seats, places and other people's sessions are not the caller's to touch.
-- Before the insert and not after it, because the row that the caller gets back must name his agent: the portal's
-- widget looks at nothing else, ever.
create function chat.start_session()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  room text := (select s.waiting_room from chat.settings as s);
  carried uuid;
begin
  if exists (select from public.chat_sessions as s where s.id = new.id) then
    return new;  -- not a start: this ends in the statement's conflict clause
  end if;

  new.tenant_id := coalesce(new.tenant_id, (
    select t.id
    from public.tenants as t
    where t.id::text = coalesce(
      chat.claimed_tenant()::text,
      (select u.raw_app_meta_data ->> 'tenant_id' from auth.users as u where u.id = new.customer_id)
    )
  ));
  if not chat.is_open(new.status) then
    return new;  -- history, brought in by somebody who may
  end if;

  if new.customer_id is not null then
    perform chat.lock_customer(new.customer_id);
    carried := chat.supersede(new.customer_id, new.id);
  end if;

  if new.agent_id is not null then
    perform chat.leave_queue(new.id, 'assigned');
    if carried is null then
      perform chat.take_seat(new.id, new.agent_id);
    elsif carried <> new.agent_id then
      perform chat.pass_seat(new.id, carried, new.agent_id);
    end if;
  elsif carried is not null then
    new.agent_id := carried;
  elsif not exists (select from chat.queue as q where q.session_id = new.id and q.left_at is null) then
    new.agent_id := chat.pick_agent(new.id, new.tenant_id, new.customer_id, clock_timestamp());
    if new.agent_id is null then
      perform chat.lock_queue_to_join();
      while chat.assign_next() is not null loop
        null;
      end loop;
      new.agent_id := chat.pick_agent(new.id, new.tenant_id, new.customer_id, clock_timestamp());
    end if;
    if new.agent_id is null then
      perform chat.join_queue(new.id, clock_timestamp());
    else
      perform chat.take_seat(new.id, new.agent_id);
    end if;
  end if;

  if new.agent_id is not null then
    new.status := 'active';
    new.queue_position := null;
  else
    -- an open waiting room lets the customer write at once: see chat.show_waiting
    new.status := case room when 'open' then 'active' else 'waiting' end;
    new.queue_position := chat.place_in_line(new.id, new.tenant_id);
  end if;
  return new;
end
$$;

create trigger chat_sessions_20_start
  before insert on public.chat_sessions
  for each row
  execute function chat.start_session();

create function chat.follow_start()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform chat.carry_messages(new.id);
  return null;
end
$$;

create trigger chat_sessions_30_follow_start
  after insert on public.chat_sessions
  for each row
  when (new.status in ('waiting', 'active'))
  execute function chat.follow_start();

-- The row returned by a start in an open waiting room says active; the row that stays says what is true.
create function chat.show_waiting()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.chat_sessions as s
  set status = 'waiting'
  where s.id = new.id
    and s.status = 'active'
    and s.agent_id is null;
  return null;
end
$$;

create constraint trigger chat_sessions_40_show_waiting
  after insert on public.chat_sessions
  deferrable initially deferred
  for each row
  when (new.status = 'active' and new.agent_id is null)
  execute function chat.show_waiting();

revoke execute on all functions in schema chat from public;
