-- A start, and what follows a change: as 0800 to 1000, by queue.

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

-- What follows from a change within the row itself.
-- security definer: settings are not the callers' to read.
create or replace function chat.settle_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  instant timestamptz := clock_timestamp();
begin
  -- an open session is active while somebody serves it
  if chat.is_open(new.status) then
    if old.customer_id is not null and new.customer_id is null then
      new.status := 'abandoned';  -- the customer's account is gone
    elsif new.status = 'waiting' and old.status = 'active' and new.agent_id is not distinct from old.agent_id then
      new.agent_id := null;
    end if;
  end if;
  if chat.is_open(new.status) then
    new.status := case when new.agent_id is null then 'waiting' else 'active' end;
    if new.queue_id is distinct from old.queue_id or new.queue_id is null then
      new.queue_id := chat.queue_for(new.queue_id, new.tenant_id);
    end if;
  end if;

  if chat.is_open(old.status) and not chat.is_open(new.status) then
    new.ended_at := instant;
    new.chat_duration_seconds := floor(extract(epoch from instant - new.started_at));
    new.wait_time_seconds := floor(extract(epoch from new.agent_joined_at - new.started_at));
  elsif chat.is_open(new.status) and not chat.is_open(old.status) then
    new.ended_at := null;
    new.chat_duration_seconds := null;
  end if;
  if new.status <> 'waiting' then
    new.queue_position := null;
  end if;

  if (new.rating, new.feedback_comment) is distinct from (old.rating, old.feedback_comment) then
    if new.ended_at < instant - (select s.rate_within from chat.settings as s) then
      new.rating := old.rating;
      new.feedback_comment := old.feedback_comment;
    else
      new.feedback_submitted_at := instant;
    end if;
  end if;

  new.updated_at := instant;
  return new;
end
$$;

create or replace trigger chat_sessions_20_settle_update
  before update on public.chat_sessions
  for each row
  when (
    (
      old.status, old.agent_id, old.customer_id, old.rating, old.feedback_comment, old.tags, old.metadata,
      old.queue_id, old.priority, old.required_skills
    ) is distinct from (
      new.status, new.agent_id, new.customer_id, new.rating, new.feedback_comment, new.tags, new.metadata,
      new.queue_id, new.priority, new.required_skills
    )
  )
  execute function chat.settle_update();

-- What follows a change: seats and places are brought in step with the row, whoever changed it. Who already saw to
-- them (chat.give, chat.return_to_line, a late message) finds nothing left to do here.
-- security definer: seats and places are not the caller's to touch.
create or replace function chat.follow_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
  seated_with uuid;
begin
  if new.rating is distinct from old.rating then
    perform chat.record(new, 'rated', new.agent_id, details => jsonb_build_object('rating', new.rating));
  end if;

  if chat.is_open(old.status) and not chat.is_open(new.status) then
    perform chat.record(
      new, 'ended', new.agent_id, queue => new.queue_id,
      details => chat.cause() || jsonb_build_object('status', new.status)
    );
    update public.chat_typing_indicators as t
    set is_typing = false,
        updated_at = clock_timestamp()
    where t.session_id = new.id
      and t.is_typing;
    if new.customer_id is not null and caller is distinct from new.customer_id then
      perform chat.tell_customer(new.id, (select s.ended_notice from chat.settings as s));
    end if;
    perform chat.leave_queue(new.id, case new.status when 'abandoned' then 'abandoned' else 'ended' end);
    perform chat.leave_seat(new.id, 'ended');
    return null;
  end if;

  if not chat.is_open(new.status) then
    return null;
  end if;

  seated_with := (select a.agent_id from chat.assignments as a where a.session_id = new.id and a.released_at is null);

  if not chat.is_open(old.status) then
    perform chat.record(new, 'reopened', new.agent_id);
    if new.agent_id is null
      and seated_with is null
      and not exists (select from chat.queue as q where q.session_id = new.id and q.left_at is null)
    then
      perform chat.lock_queue_to_join();
      perform chat.join_queue(new, chat.place_for(new, new.started_at));
      perform pg_notify('chat', 'queue');
    elsif new.agent_id is not null and seated_with is null then
      perform chat.take_seat(new, new.agent_id, clock_timestamp(), 'assigned', null, '{"reason": "reopened"}');
    end if;

  elsif new.agent_id is null and seated_with is not null then
    perform chat.return_to_line(new, case
      when chat.cause() ->> 'reason' in ('rejected', 'unanswered', 'lost', 'transferred') then chat.cause() ->> 'reason'
      when new.queue_id is distinct from old.queue_id then 'transferred'
      else 'returned'
    end);

  elsif new.agent_id is null then
    if (old.queue_id, old.priority, old.required_skills) is distinct from
      (new.queue_id, new.priority, new.required_skills)
    then
      perform chat.move_place(new);
      perform chat.record(
        new,
        case
          when chat.cause() ->> 'reason' = 'overflowed' then 'overflowed'
          when old.queue_id is distinct from new.queue_id then 'transferred'
          else 'prioritised'
        end,
        queue => new.queue_id,
        details => chat.cause() || jsonb_build_object('from_queue', old.queue_id, 'priority', new.priority)
      );
    end if;

  else
    if new.agent_id is distinct from seated_with
      and caller is not null
      and new.agent_id <> caller
    then
      perform chat.check_recipient(new, new.agent_id);
    end if;
    if seated_with is null then
      perform chat.take_seat(
        new, new.agent_id, clock_timestamp(), 'assigned', null,
        chat.cause() || jsonb_build_object('reason', case
          when caller = new.agent_id then 'taken by hand'
          else 'given by hand'
        end)
      );
    elsif seated_with <> new.agent_id then
      perform chat.pass_seat(
        new, seated_with, new.agent_id,
        case when caller = new.agent_id then 'taken_over' else 'transferred' end
      );
    end if;
    if chat.leave_queue(new.id, 'assigned') then
      perform chat.tell_customer(new.id, (select s.joined_notice from chat.settings as s));
    end if;
  end if;

  update public.chat_sessions as s
  set queue_position = chat.place_in_line(s.id)
  where s.id = new.id
    and s.status = 'waiting'
    and s.queue_position is null;
  return null;
end
$$;

create or replace trigger chat_sessions_30_follow_update
  after update on public.chat_sessions
  for each row
  when (
    (old.status, old.agent_id, old.rating, old.queue_id, old.priority, old.required_skills) is distinct from
    (new.status, new.agent_id, new.rating, new.queue_id, new.priority, new.required_skills)
  )
  execute function chat.follow_update();

-- As 0300 has it, but a customer's message takes his lock first: one that comes late may reopen its session, which his
-- next start may be just about to close.
-- security definer: locks and reads a session whatever the sender may see of it; the policy judges him afterwards.
create or replace function chat.place_message()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  customer uuid;
  agent uuid;
begin
  select s.customer_id
  into customer
  from public.chat_sessions as s
  where s.id = new.session_id;
  if new.sender_id = customer then
    perform chat.lock_customer(customer);
  end if;

  -- From here to the commit nobody else writes to this session: times and numbers grow with the order of commits.
  select s.customer_id, s.agent_id
  into customer, agent
  from public.chat_sessions as s
  where s.id = new.session_id
  for no key update;

  if new.sender_type <> 'system' then
    new.sender_type := case new.sender_id
      when customer then 'customer'
      when agent then 'agent'
      else new.sender_type
    end;
  end if;
  new.seq := nextval('public.chat_messages_seq');
  new.created_at := coalesce(new.created_at, clock_timestamp());
  return new;
end
$$;

-- A customer wrote to a session that is over. His text is kept whatever happens. If somebody else ended the session
-- not long ago, or he is here in another session, the chat goes on here; if he left it himself, his last words may
-- have crossed his leaving; if it was long ago, he is told to start anew.
create or replace function chat.answer_late_message(session uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  settings chat.settings;
  closed public.chat_sessions;
  superseding record;
  ended_by text;
  agent uuid;
  why jsonb;
  place chat.queue;
begin
  select * into strict settings from chat.settings;
  select * into strict closed from public.chat_sessions as s where s.id = session;
  select e.actor
  into ended_by
  from chat.events as e
  where e.session_id = session
    and e.kind = 'ended'
  order by e.id desc
  limit 1;

  if coalesce(closed.ended_at < clock_timestamp() - settings.reopen_within, true) then
    perform chat.tell_customer(session, settings.closed_notice);
    return;
  end if;

  perform chat.lock_customer(closed.customer_id);
  select * into superseding from chat.supersede(closed);
  closed := superseding.session;
  agent := superseding.agent;
  if agent is null and not exists (
    select from chat.queue as q where q.session_id = session and q.left_at is null
  ) then
    if ended_by = 'customer' then
      return;
    end if;

    closed.queue_id := chat.queue_for(closed.queue_id, closed.tenant_id);
    place := chat.place_for(closed, closed.started_at);
    select picked.agent, picked.explanation into agent, why from chat.pick_agent(place, closed.agent_id) as picked;
    if agent is null then
      perform chat.lock_queue_to_join();
      select picked.agent, picked.explanation into agent, why from chat.pick_agent(place, closed.agent_id) as picked;
    end if;
    if agent is not null then
      perform chat.take_seat(closed, agent, clock_timestamp(), 'assigned', null, why);
    end if;
  end if;

  update public.chat_sessions as s
  set status = case when agent is null then 'waiting' else 'active' end,
      agent_id = agent
  where s.id = session;
  perform chat.carry_messages(session);
end
$$;

revoke execute on all functions in schema chat from public;
