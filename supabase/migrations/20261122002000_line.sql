-- Places by queue. With the files that follow: what 0700 to 1100 did for one line is done for many, and every step is
-- recorded.
--
-- The order of locks is that of 0500, and two rules follow from it. Who changes a session that waits takes no lock on
-- the line: the head of the line may be waited for by somebody who holds it. And who holds one agent waits for no
-- other, unless he is alone at the line or takes both in order.

drop function chat.place_in_line(uuid, uuid);
drop function chat.join_queue(uuid, timestamptz);
drop function chat.take_seat(uuid, uuid);
drop function chat.lock_head(uuid);
drop function chat.assign(uuid);
drop function chat.pass_seat(uuid, uuid, uuid);
drop function chat.pick_agent(uuid, uuid, uuid, timestamptz, uuid);
drop function chat.can_take(uuid, uuid, uuid, uuid, timestamptz);

-- who lost, refused or gave back a session is not given it again, however much later
alter table chat.settings drop column same_agent_after;

-- a start records what it did before its row is written
alter table chat.events alter constraint events_session_id_fkey deferrable initially deferred;

-- Who joins the line is told of, who leaves it is not: notifications make commits wait for each other, and a statement
-- that closes no place sent one too.
drop trigger queue_notify_worker on chat.queue;
create trigger queue_notify_worker
  after insert on chat.queue
  for each row
  execute function chat.notify_worker();

alter table chat.queue
  -- when the session came to the queue that it waits in now
  add column queue_since timestamptz not null default clock_timestamp();

-- Why something is done: what is recorded of a change of a session's row, for the rest of the transaction's statement.
-- Callers of the API cannot set it.

create function chat.because(reason text, comment text default null)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform set_config(
    'chat.cause',
    jsonb_strip_nulls(jsonb_build_object('reason', reason, 'comment', left(comment, 1000)))::text,
    true
  );
end
$$;

create function chat.cause()
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce(nullif(current_setting('chat.cause', true), '')::jsonb, '{}');
end
$$;

-- Places.

-- The number of a place in its queue, among those of its tenant. The first hundred are counted; who comes later is told
-- one more than the one before him, and counted when the line is next numbered: counting ten thousand takes longer than
-- all else about joining.
create function chat.place_in_line(session uuid)
returns integer
language plpgsql
stable
set search_path = ''
set enable_seqscan = off  -- a plan made while the line is short must do when it is long
set enable_sort = off
as $$
declare
  mine chat.queue;
  ahead integer;
begin
  select * into mine from chat.queue as q where q.session_id = session and q.left_at is null;
  if not found then
    return null;
  end if;

  select count(*)
  into ahead
  from (
    select
    from chat.queue as q
    where q.left_at is null
      and q.queue_id = mine.queue_id
      and q.tenant_id is not distinct from mine.tenant_id
      and (q.rank_at, q.id) < (mine.rank_at, mine.id)
    limit 100
  ) as first_hundred;
  if ahead < 100 then
    return ahead + 1;
  end if;

  return (
    select greatest(s.queue_position, ahead) + 1
    from chat.queue as q
    join public.chat_sessions as s on s.id = q.session_id
    where q.left_at is null
      and q.queue_id = mine.queue_id
      and q.tenant_id is not distinct from mine.tenant_id
      and (q.rank_at, q.id) < (mine.rank_at, mine.id)
    order by q.rank_at desc, q.id desc
    limit 1
  );
end
$$;

-- Takes a place. A start calls chat.lock_queue_to_join first and looks for a seat under it.
create function chat.join_queue(session public.chat_sessions, place chat.queue)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into chat.queue (
    session_id, queued_at, entered_at, queue_id, tenant_id, customer_id, required_skills, excluded_agents, rank_at
  )
  values (
    place.session_id, place.queued_at, place.entered_at, place.queue_id, place.tenant_id, place.customer_id,
    place.required_skills, place.excluded_agents, place.rank_at
  )
  on conflict (session_id) where left_at is null do nothing;
  perform chat.record(session, 'queued', queue => place.queue_id, details => chat.explain_wait(place));
end
$$;

-- Brings a waiting session's place up to date with its row.
create function chat.move_place(session public.chat_sessions)
returns void
language plpgsql
set search_path = ''
as $$
declare
  place chat.queue;
begin
  select moved.*
  into place
  from chat.queue as q
  cross join lateral chat.place_for(session, q.queued_at) as moved
  where q.session_id = session.id
    and q.left_at is null;

  update chat.queue as q
  set queue_id = place.queue_id,
      queue_since = case when q.queue_id is distinct from place.queue_id then clock_timestamp() else q.queue_since end,
      required_skills = place.required_skills,
      excluded_agents = array(select distinct agent from unnest(q.excluded_agents || place.excluded_agents) as agent),
      rank_at = place.rank_at
  where q.session_id = session.id
    and q.left_at is null;
  perform pg_notify('chat', 'queue');  -- somebody may be free for it now
end
$$;

-- Marks a waiting session as being served until the transaction ends, and locks its row; false when somebody else is
-- just serving it, or has. Who frees a seat passes over those whom others serve, and waits for one who is only writing a
-- message: so many seats are filled at once, and nobody is overtaken.
create function chat.claim_head(session uuid)
returns boolean
language plpgsql
set search_path = ''
as $$
begin
  if not pg_try_advisory_xact_lock(hashtextextended('chat.head ' || session, 0))
    or not exists (select from chat.queue as q where q.session_id = session and q.left_at is null)
  then
    return false;
  end if;
  perform from public.chat_sessions as s
  where s.id = session
    -- one statement may end many: a row that ended is served no more, though its place is still to be closed
    and s.agent_id is null
    and s.status in ('waiting', 'active')
  for no key update;
  return found
    and exists (select from chat.queue as q where q.session_id = session and q.left_at is null);
end
$$;

-- The first in line whom this agent suits, up to so many, claimed.
create function chat.lock_heads(agent chat.agents, seats integer)
returns uuid[]
language plpgsql
set search_path = ''
set enable_seqscan = off  -- a plan made while the line is short must do when it is long
set enable_sort = off
as $$
declare
  heads uuid[] := '{}';
  head uuid;
begin
  if seats < 1 or not exists (select from chat.queue as q where q.left_at is null) then
    return heads;
  end if;
  for head in
    select q.session_id
    from chat.queue as q
    where q.left_at is null
      and chat.suits(agent, q)
    order by q.rank_at, q.id
  loop
    if chat.claim_head(head) then
      heads := heads || head;
      exit when cardinality(heads) = seats;
    end if;
  end loop;
  return heads;
end
$$;

revoke execute on all functions in schema chat from public;
