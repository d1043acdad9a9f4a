-- Adoption, the end: sessions that were there before us get their seats and places in line, and the trail says what
-- became of those that another one superseded. On any other database there is nothing to do.

do $$
begin
  perform chat.reconcile();
  if to_regclass('chat.adopted_sessions') is null then
    return;
  end if;

  insert into chat.events (session_id, kind, actor, other_session_id, details)
  select a.session_id, 'superseded', 'system', a.superseded_by, '{"reason": "adopted"}'
  from chat.adopted_sessions as a;
  insert into chat.events (session_id, kind, actor, details)
  select a.session_id, 'ended', 'system', '{"reason": "adopted"}'
  from chat.adopted_sessions as a;

  -- an agent who has said nothing yet has from now on to answer
  update chat.assignments as a
  set assigned_at = clock_timestamp()
  from public.chat_sessions as s
  where s.id = a.session_id
    and s.agent_joined_at is null
    and a.released_at is null;

  -- as at a start: what nobody answered, and the time that the customer waits already, go over to the newest
  perform chat.carry_messages(newest.id)
  from (select distinct a.superseded_by as id from chat.adopted_sessions as a) as newest;
  update chat.queue as q
  set queued_at = q.queued_at - earlier.waited,
      rank_at = q.rank_at - earlier.waited
  from (
    select a.superseded_by, newest.started_at - min(s.started_at) as waited
    from chat.adopted_sessions as a
    join public.chat_sessions as s on s.id = a.session_id
    join public.chat_sessions as newest on newest.id = a.superseded_by
    group by a.superseded_by, newest.started_at
  ) as earlier
  where q.session_id = earlier.superseded_by
    and q.left_at is null;

  drop table chat.adopted_sessions;
end
$$;
