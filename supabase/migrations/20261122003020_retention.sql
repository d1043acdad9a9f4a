-- Retention: what was kept long enough is erased, then deleted; what is only in the way is cleared.

alter table chat.settings
  -- how long after its end a session keeps its texts, files and names; null: for ever
  add column retain_messages_for interval check (retain_messages_for >= interval '0'),
  -- how long it is kept at all; what it added to the reports stays. null: for ever
  add column retain_sessions_for interval check (retain_sessions_for >= interval '0'),
  -- how long its audit trail is kept; null: as long as the session
  add column retain_events_for interval check (retain_events_for >= interval '0');

-- neither changes with a message, which is counted on the row in place
create index idx_chat_sessions_to_erase on public.chat_sessions (ended_at) where erased_at is null;
create index idx_chat_sessions_ended on public.chat_sessions (ended_at) where ended_at is not null;
create index events_happened on chat.events (happened_at);

-- Erases some sessions that ended long enough ago, deletes some that ended longer ago. Those that somebody works on
-- come next time, those on hold when they are let go.
create function chat.retain()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  most constant integer := 100;
  settings chat.settings;
  -- known before the look, so that the indexes stop there
  erase_before timestamptz;
  delete_before timestamptz;
  forget_before timestamptz;
  due uuid[];
  session public.chat_sessions;
  part record;
  erased bigint := 0;
  messages bigint := 0;
  files bigint := 0;
  deleted bigint := 0;
  events bigint := 0;
begin
  select * into strict settings from chat.settings;
  erase_before := clock_timestamp() - settings.retain_messages_for;
  delete_before := clock_timestamp() - settings.retain_sessions_for;
  forget_before := clock_timestamp() - settings.retain_events_for;

  for session in
    select s.*
    from public.chat_sessions as s
    where s.ended_at < erase_before
      and s.erased_at is null
      and not chat.is_open(s.status)
      and not exists (select from chat.holds as h where h.session_id = s.id)
    order by s.ended_at
    limit most
    for update of s skip locked
  loop
    -- put on hold between the look and the lock
    continue when exists (select from chat.holds as h where h.session_id = session.id);
    select * into part from chat.erase(session, 'retention');
    erased := erased + (part.erased is not null)::integer;
    messages := messages + coalesce(part.messages, 0);
    files := files + coalesce(part.files, 0);
  end loop;
  insert into chat.erasures (kind, reason, sessions, messages, files)
  select 'retention', 'kept for ' || settings.retain_messages_for, erased, messages, files
  where erased > 0;

  due := array(
    select s.id
    from public.chat_sessions as s
    where s.ended_at < delete_before
      and not chat.is_open(s.status)
      and not exists (select from chat.holds as h where h.session_id = s.id)
    order by s.ended_at
    limit most
    for update of s skip locked
  );
  due := array(
    select d.id
    from unnest(due) as d (id)
    where not exists (select from chat.holds as h where h.session_id = d.id)
  );
  messages := (select count(*) from public.chat_messages as m where m.session_id = any (due));
  files := (select coalesce(sum(chat.forget_files(d.id)), 0) from unnest(due) as d (id));
  delete from public.chat_sessions as s where s.id = any (due);
  get diagnostics deleted = row_count;
  insert into chat.erasures (kind, reason, sessions, messages, files)
  select 'deletion', 'kept for ' || settings.retain_sessions_for, deleted, messages, files
  where deleted > 0;

  -- an open session's trail tells who ended it, whatever its age
  delete from chat.events as e
  where e.id = any(array(
    select old.id
    from chat.events as old
    join public.chat_sessions as s on s.id = old.session_id
    where old.happened_at < forget_before
      and s.ended_at < forget_before
      and not chat.is_open(s.status)
      and not exists (select from chat.holds as h where h.session_id = s.id)
    order by old.happened_at
    limit most * 10
    for update of old skip locked
  ));
  get diagnostics events = row_count;
  return erased + deleted + events;
end
$$;

-- Clears what nobody looks at any more: who once typed in sessions that are over, and notes of handovers that were
-- done in the transactions that left them.
create function chat.prune()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  changed bigint;
  total bigint;
begin
  delete from public.chat_typing_indicators as t
  where t.id = any(array(
    select old.id
    from public.chat_typing_indicators as old
    join public.chat_sessions as s on s.id = old.session_id
    where not old.is_typing
      and s.ended_at < clock_timestamp() - interval '1 hour'
      and not chat.is_open(s.status)
    limit 1000
    for update of old skip locked
  ));
  get diagnostics total = row_count;

  delete from chat.handovers as h
  where h.id = any(array(
    select old.id
    from chat.handovers as old
    where old.requested_at < clock_timestamp() - interval '1 hour'
    limit 1000
    for update skip locked
  ));
  get diagnostics changed = row_count;
  return total + changed;
end
$$;

revoke execute on all functions in schema chat from public;
