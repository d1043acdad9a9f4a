-- Late messages.

-- A customer wrote to a session that is over. His text is kept whatever happens. If somebody else ended the session
-- not long ago, or he is here in another session, the chat goes on here; if he left it himself, his last words may
-- have crossed his leaving; if it was long ago, he is told to start anew.
create function chat.answer_late_message(session uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  settings chat.settings;
  closed public.chat_sessions;
  ended_by text;
  agent uuid;
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
  agent := chat.supersede(closed.customer_id, session);
  if agent is null and not exists (
    select from chat.queue as q where q.session_id = session and q.left_at is null
  ) then
    if ended_by = 'customer' then
      return;
    end if;

    agent := chat.pick_agent(session, closed.tenant_id, closed.customer_id, closed.started_at, closed.agent_id);
    if agent is null then
      perform chat.lock_queue_to_join();
      agent := chat.pick_agent(session, closed.tenant_id, closed.customer_id, closed.started_at);
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
