-- What follows a change or a late message: as 0900 and 1000, by queue.

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
    if new.agent_id is null and exists (
      select from chat.queue as q where q.session_id = new.id and q.left_at is null
    ) then
      perform chat.move_place(new);  -- it came along from the session that this one superseded
    elsif new.agent_id is null and seated_with is null then
      -- Not under the lock of those who join: who holds it may wait for this row, which was in line a moment ago. A seat
      -- that is freed just now is for the worker to give, who hears of us.
      perform chat.join_queue(new, chat.place_for(new, new.started_at));
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
    if agent is not null then
      perform chat.take_seat(closed, agent, clock_timestamp(), 'assigned', null, why);
    end if;
  end if;

  update public.chat_sessions as s
  set status = case when agent is null then 'waiting' else 'active' end,
      agent_id = agent,
      priority = closed.priority,
      required_skills = closed.required_skills
  where s.id = session;
  perform chat.carry_messages(session);
end
$$;

revoke execute on all functions in schema chat from public;
