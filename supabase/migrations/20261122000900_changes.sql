-- What follows a change: seats and places keep in step with every later change of state or agent.
-- security definer: seats and places are not the caller's to touch.

create function chat.follow_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
  actor text := case
    when caller is null then 'system'
    when caller = old.customer_id then 'customer'
    when caller = old.agent_id then 'agent'
    else 'lead'
  end;
begin
  if new.rating is distinct from old.rating then
    insert into chat.events (session_id, kind, actor, actor_id)
    values (new.id, 'rated', actor, caller);
  end if;

  if chat.is_open(old.status) and not chat.is_open(new.status) then
    insert into chat.events (session_id, kind, actor, actor_id)
    values (new.id, 'ended', actor, caller);
    update public.chat_typing_indicators as t
    set is_typing = false,
        updated_at = clock_timestamp()
    where t.session_id = new.id
      and t.is_typing;
    if actor <> 'customer' and new.customer_id is not null then
      perform chat.tell_customer(new.id, (select s.ended_notice from chat.settings as s));
    end if;
    perform chat.leave_queue(new.id, case new.status when 'abandoned' then 'abandoned' else 'ended' end);
    perform chat.leave_seat(new.id, 'ended');

  elsif chat.is_open(new.status) and not chat.is_open(old.status) then
    insert into chat.events (session_id, kind, actor, actor_id)
    values (new.id, 'reopened', actor, caller);
    -- a session that was superseded to reopen this one has left its seat or its place to it
    if exists (
      select from chat.assignments as a where a.session_id = new.id and a.released_at is null
      union all
      select from chat.queue as q where q.session_id = new.id and q.left_at is null
    ) then
      null;
    elsif new.agent_id is not null then
      perform chat.take_seat(new.id, new.agent_id);
    else
      perform chat.lock_queue_to_join();
      perform chat.join_queue(new.id, new.started_at);
      perform chat.assign_next();
    end if;

  elsif chat.is_open(new.status) and new.agent_id is distinct from old.agent_id then
    if actor in ('agent', 'lead')
      and new.agent_id <> caller
      and not exists (select from public.support_agents as a where a.user_id = new.agent_id)
    then
      raise exception '% is no support agent', new.agent_id using errcode = 'check_violation';
    end if;
    if old.agent_id is null then
      perform chat.take_seat(new.id, new.agent_id);
      if chat.leave_queue(new.id, 'assigned') then
        perform chat.tell_customer(new.id, (select s.joined_notice from chat.settings as s));
      end if;
    elsif new.agent_id is null then
      -- back in line with the time of its start: nobody who came later goes first
      perform chat.lock_queue_to_join();
      perform chat.join_queue(new.id, new.started_at);
      perform chat.leave_seat(new.id, 'returned');
      perform chat.assign_next();
    else
      perform chat.pass_seat(new.id, old.agent_id, new.agent_id);
    end if;
  end if;

  update public.chat_sessions as s
  set queue_position = chat.place_in_line(s.id, s.tenant_id)
  where s.id = new.id
    and s.status = 'waiting'
    and s.queue_position is null;
  return null;
end
$$;

create trigger chat_sessions_30_follow_update
  after update on public.chat_sessions
  for each row
  when ((old.status, old.agent_id, old.rating) is distinct from (new.status, new.agent_id, new.rating))
  execute function chat.follow_update();

create function chat.leave_before_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if chat.is_open(old.status) then
    perform chat.leave_queue(old.id, 'ended');
    perform chat.leave_seat(old.id, 'ended');
  end if;
  return old;
end
$$;

create trigger chat_sessions_30_leave_before_delete
  before delete on public.chat_sessions
  for each row
  execute function chat.leave_before_delete();

revoke execute on all functions in schema chat from public;
