-- Measuring sessions, their legs and their places.

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
