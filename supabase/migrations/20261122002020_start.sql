-- A start: as 0800, by queue.

create or replace function chat.reduce_start()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not row_security_active('public.chat_sessions') then
    return new;
  end if;

  -- what else a row has is not granted to callers (1300)
  new.customer_id := coalesce(new.customer_id, auth.uid());  -- another's is refused by the policy
  new.status := 'waiting';
  new.session_number := null;
  new.tenant_id := null;
  new.agent_id := null;
  new.queue_position := null;
  new.started_at := clock_timestamp();
  new.created_at := new.started_at;
  new.updated_at := new.started_at;
  new.messages_count := 0;
  new.ip_address := null;
  new.required_skills := coalesce(new.required_skills, '{}');
  return new;
end
$$;

-- Closes a customer's other open session and gives its seat or its place in line to `session`, and what it asked for
-- where the new one asks for nothing. Returns the agent who came along.
create function chat.supersede(inout session public.chat_sessions, out agent uuid)
language plpgsql
set search_path = ''
as $$
declare
  earlier public.chat_sessions;
begin
  select *
  into earlier
  from public.chat_sessions as s
  where s.customer_id = session.customer_id
    and s.id <> session.id
    and s.status in ('waiting', 'active')
  for no key update;
  if not found then
    return;
  end if;

  session.queue_id := coalesce(session.queue_id, earlier.queue_id);
  session.priority := greatest(session.priority, earlier.priority);
  if session.required_skills = '{}' then
    session.required_skills := earlier.required_skills;
  end if;

  with seat as (
    update chat.assignments as a
    set session_id = session.id
    where a.session_id = earlier.id
      and a.released_at is null
    returning a.agent_id, a.assigned_at, a.queue_id
  ), history as (
    insert into chat.assignments (session_id, agent_id, queue_id, assigned_at, released_at, outcome)
    select earlier.id, seat.agent_id, seat.queue_id, seat.assigned_at, clock_timestamp(), 'superseded'
    from seat
  )
  select seat.agent_id
  into agent
  from seat;

  update chat.queue as q
  set session_id = session.id
  where q.session_id = earlier.id
    and q.left_at is null;

  perform chat.record(earlier, 'superseded', other_session => session.id);
  update public.chat_sessions as s
  set status = 'ended'
  where s.id = earlier.id;
end
$$;

-- The agent whom this customer had last.
create function chat.last_agent(customer uuid)
returns uuid
language sql
stable
set search_path = ''
as $$
  select s.agent_id
  from public.chat_sessions as s
  where s.customer_id = customer
    and s.agent_joined_at is not null
  order by s.started_at desc
  limit 1
$$;

-- As 1300 has it, with a plan that is kept.
create or replace function chat.own_account()
returns table (name text, email text)
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return query
  select
    left(coalesce(u.raw_user_meta_data ->> 'full_name', u.raw_user_meta_data ->> 'name'), 255),
    left(u.email, 255)
  from auth.users as u
  where u.id = auth.uid();
end
$$;

-- security definer: seats, places and other people's sessions are not the caller's to touch.
-- Before the insert and not after it, because the row that the caller gets back must name his agent: the portal's
-- widget looks at nothing else, ever.
create or replace function chat.start_session()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  superseding record;
  place chat.queue;
  carried uuid;
  acquaintance uuid;
  why jsonb;
begin
  if exists (select from public.chat_sessions as s where s.id = new.id) then
    return new;  -- not a start: this ends in the statement's conflict clause
  end if;

  if new.tenant_id is null then
    new.tenant_id := (
      select t.id
      from public.tenants as t
      where t.id = coalesce(
        chat.tenant_of(auth.jwt() -> 'app_metadata'),
        (select chat.tenant_of(u.raw_app_meta_data) from auth.users as u where u.id = new.customer_id)
      )
    );
  end if;
  if not chat.is_open(new.status) then
    new.queue_id := chat.queue_for(new.queue_id, new.tenant_id);
    return new;  -- history, brought in by somebody who may
  end if;

  if new.customer_id is not null then
    perform chat.lock_customer(new.customer_id);
    select * into superseding from chat.supersede(new);
    new := superseding.session;
    carried := superseding.agent;
  end if;
  new.queue_id := chat.queue_for(new.queue_id, new.tenant_id);

  if carried is not null then
    if new.agent_id is null then
      new.agent_id := carried;
    elsif new.agent_id <> carried then
      perform chat.pass_seat(new, carried, new.agent_id, 'transferred');
    end if;
  elsif new.agent_id is not null then
    perform chat.leave_queue(new.id, 'assigned');
    perform chat.take_seat(new, new.agent_id, clock_timestamp(), 'assigned', null, '{"reason": "named at the start"}');
  elsif exists (select from chat.queue as q where q.session_id = new.id and q.left_at is null) then
    perform chat.move_place(new);
  else
    place := chat.place_for(new, clock_timestamp());
    acquaintance := (
      select chat.last_agent(new.customer_id)
      from public.chat_queues as q
      where q.id = new.queue_id
        and q.last_agent_first
    );
    select picked.agent, picked.explanation
    into new.agent_id, why
    from chat.pick_agent(place, acquaintance) as picked;
    if new.agent_id is null then
      -- a seat may have been freed meanwhile; from here on whoever frees one sees us
      perform chat.lock_queue_to_join();
      place := chat.place_for(new, clock_timestamp());
      select picked.agent, picked.explanation
      into new.agent_id, why
      from chat.pick_agent(place, acquaintance) as picked;
    end if;
    if new.agent_id is null then
      perform chat.join_queue(new, place);
    else
      perform chat.take_seat(new, new.agent_id, place.entered_at, 'assigned', null, why);
    end if;
  end if;

  if new.agent_id is not null then
    new.status := 'active';
    new.queue_position := null;
  else
    -- an open waiting room lets the customer write at once: see chat.show_waiting
    new.status := case
      when (select s.waiting_room from chat.settings as s) = 'open' then 'active'
      else 'waiting'
    end;
    new.queue_position := chat.place_in_line(new.id);
  end if;
  return new;
end
$$;

drop function chat.supersede(uuid, uuid);

create or replace function chat.follow_start()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if exists (select from chat.events as e where e.other_session_id = new.id and e.kind = 'superseded') then
    perform chat.carry_messages(new.id);
  end if;
  return null;
end
$$;

revoke execute on all functions in schema chat from public;
