-- What is measured about a session, on its row. All by the server's clock; docs/metrics.md defines each number.
--
-- Messages, legs and places keep the numbers as they come; chat.measured_sessions says what they must be.
--
-- No index names a column that a message changes: its session's row is written once, in place.

alter table public.chat_sessions
  -- when its agent was given it
  add column assigned_at timestamptz,
  -- time in line, all legs together
  add column queue_seconds integer,
  -- from the customer's first message to the agent's; from the start, if the customer had written nothing
  add column first_response_seconds integer,
  -- from the answering agent's assignment to his first message
  add column reaction_seconds integer,
  -- gaps between messages, cut at what somebody is present for
  add column active_seconds integer,
  -- agents' time with it, all legs together
  add column handle_seconds integer,
  -- the customer left, or was lost, before a human wrote
  add column abandoned boolean,
  -- ... sooner than chat.settings.short_abandon
  add column short_abandon boolean,
  -- an agent had it and never answered before the customer left
  add column missed boolean,
  -- ended with the customer's last words unanswered
  add column dropped boolean,
  add column transfers_count integer not null default 0,
  add column requeues_count integer not null default 0,
  -- when the customer's unanswered words began; null: nothing is unanswered
  add column unanswered_since timestamptz,
  -- the last message that a person wrote
  add column last_message_at timestamptz,
  add column last_message_by varchar(20),
  -- when the agent whom it has now first wrote since he was given it
  add column agent_answered_at timestamptz;

alter table chat.settings
  add column short_abandon interval not null default '10 seconds',
  add column service_level_within interval not null default '20 seconds';

alter table chat.assignments
  -- when it came along from a session that this one superseded; it counts here from then
  add column carried_at timestamptz;

-- An answered run of a customer's messages: from the first of them to the agent's next message.
create table chat.responses (
  session_id uuid not null references public.chat_sessions (id) on delete cascade,
  asked_at timestamptz not null,
  answered_at timestamptz not null,
  -- no foreign key: the history outlives the account
  agent_id uuid,
  primary key (session_id, asked_at)
);

alter table chat.responses enable row level security;
grant all on chat.responses to service_role;

-- Formulas. Those that ask tables are plpgsql, which keeps its plans.

create function chat.seconds(span interval)
returns integer
language sql
immutable
begin atomic
  select case when span is not null then greatest(0, floor(date_part('epoch', span))) end::integer;
end;

-- What counts of the gap between two messages: the whole, until nobody can be thought to be present. In whole seconds
-- of the clock, so that gaps add up without a remainder.
create function chat.active_gap(last_by text, last_at timestamptz, at_time timestamptz)
returns integer
language sql
immutable
begin atomic
  select case
    when last_at is null then 0  -- the first message; least would pass over the null
    else least(
      case last_by when 'agent' then 240 else 600 end,
      floor(date_part('epoch', at_time)) - floor(date_part('epoch', last_at))
    )
  end::integer;
end;

-- Time in line, of places that were left; with `until` also of the one that is being left then. Null: never in line.
create function chat.queue_seconds(session uuid, until timestamptz default null)
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select chat.seconds(sum(greatest(coalesce(q.left_at, until) - q.entered_at, interval '0')))
    from chat.queue as q
    where q.session_id = session
  );
end
$$;

-- Agents' time, of legs that are over; with `until` also of the one that ends then. A leg counts from the agent's
-- first sign. Null: no leg is over.
create function chat.handle_seconds(session uuid, until timestamptz default null)
returns integer
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select chat.seconds(sum(
      -- greatest passes over a null: who gave no sign spent no time
      case when a.accepted_at is not null
        then coalesce(a.released_at, until) - greatest(a.accepted_at, a.carried_at)
        else interval '0'
      end
    ))
    from chat.assignments as a
    where a.session_id = session
      and coalesce(a.released_at, until) is not null
  );
end
$$;

-- How a session's legs ended.
create view chat.ended_legs as
select
  a.session_id,
  count(*) filter (where a.outcome in ('transferred', 'taken_over')) as transfers,
  count(*) filter (where a.outcome in ('returned', 'rejected', 'unanswered', 'lost')) as requeues
from chat.assignments as a
where a.released_at is not null
group by a.session_id;

-- Whether it ended so soon that its leaving says nothing about the service: from the start, or from when the customer
-- began to wait in a session that this one superseded.
create function chat.is_short(session uuid, started_at timestamptz, asked_at timestamptz, ended_at timestamptz)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select ended_at - least(started_at, asked_at, min(q.entered_at)) < (select s.short_abandon from chat.settings as s)
    from chat.queue as q
    where q.session_id = session
  );
end
$$;

-- What messages, legs and places say about each session. What they do not tell (a session brought in without them)
-- stays as it is.
create view chat.measured_sessions as
select
  s.id,
  s.status,
  coalesce(leg.began_at, s.assigned_at) as assigned_at,
  coalesce(chat.queue_seconds(s.id), s.queue_seconds) as queue_seconds,
  first.answer_at as agent_joined_at,
  case
    when said.first_answer is null then s.wait_time_seconds
    else chat.seconds(first.answer_at - s.started_at)
  end as wait_time_seconds,
  case
    when said.first_answer is null then s.first_response_seconds
    when said.first_question < first.answer_at then chat.seconds(first.answer_at - said.first_question)
    else chat.seconds(first.answer_at - s.started_at)
  end as first_response_seconds,
  coalesce(chat.seconds(first.answer_at - answering.began_at), s.reaction_seconds) as reaction_seconds,
  coalesce(said.active_seconds, s.active_seconds) as active_seconds,
  coalesce(chat.handle_seconds(s.id), s.handle_seconds) as handle_seconds,
  ended.abandoned,
  ended.abandoned and chat.is_short(s.id, s.started_at, said.first_question, s.ended_at) as short_abandon,
  ended.abandoned and coalesce(leg.began_at, s.assigned_at) is not null as missed,
  case when not chat.is_open(s.status) then coalesce(said.dropped, s.dropped, false) end as dropped,
  coalesce(legs.transfers, s.transfers_count) as transfers_count,
  coalesce(legs.requeues, s.requeues_count) as requeues_count,
  coalesce(said.unread_by_agent, 0) as unread_by_agent,
  coalesce(said.unread_by_customer, 0) as unread_by_customer,
  said.unanswered_since,
  coalesce(said.last_at, s.last_message_at) as last_message_at,
  coalesce(said.last_by, s.last_message_by) as last_message_by,
  spoke.first_at as agent_answered_at
from public.chat_sessions as s
left join lateral (
  select
    min(m.created_at) filter (where m.sender_type = 'agent') as first_answer,
    min(m.created_at) filter (where m.sender_type = 'customer') as first_question,
    sum(chat.active_gap(m.last_by, m.last_at, m.created_at)) as active_seconds,
    count(*) filter (where m.sender_type = 'customer' and m.is_read is not true) as unread_by_agent,
    count(*) filter (where m.sender_type = 'agent' and m.is_read is not true) as unread_by_customer,
    min(m.created_at) filter (where m.sender_type = 'customer' and m.place > m.last_answer) as unanswered_since,
    bool_or(m.sender_type = 'customer' and m.created_at <= s.ended_at and m.place > m.last_answer_by_end) as dropped,
    max(m.created_at) as last_at,
    (array_agg(m.sender_type order by m.place desc))[1] as last_by
  from (
    select
      n.*,
      coalesce(max(n.place) filter (where n.sender_type = 'agent') over (), 0) as last_answer,
      coalesce(
        max(n.place) filter (where n.sender_type = 'agent' and n.created_at <= s.ended_at) over (), 0
      ) as last_answer_by_end
    from (
      select
        o.sender_type,
        o.created_at,
        o.is_read,
        row_number() over line as place,
        lag(o.sender_type) over line as last_by,
        lag(o.created_at) over line as last_at
      from public.chat_messages as o
      where o.session_id = s.id
        and o.sender_type <> 'system'
      window line as (order by o.created_at, o.seq)
    ) as n
  ) as m
) as said on true
cross join lateral (select coalesce(said.first_answer, s.agent_joined_at) as answer_at) as first
-- its latest leg
left join lateral (
  select coalesce(a.carried_at, a.assigned_at) as began_at
  from chat.assignments as a
  where a.session_id = s.id
  order by began_at desc
  limit 1
) as leg on true
-- the one in which it was first answered
left join lateral (
  select coalesce(a.carried_at, a.assigned_at) as began_at
  from chat.assignments as a
  where a.session_id = s.id
    and coalesce(a.carried_at, a.assigned_at) <= first.answer_at
    and coalesce(a.released_at, 'infinity') >= first.answer_at
  order by began_at desc
  limit 1
) as answering on true
left join lateral (
  select min(m.created_at) as first_at
  from public.chat_messages as m
  where m.session_id = s.id
    and m.sender_type = 'agent'
    and m.sender_id = s.agent_id
    and m.created_at >= leg.began_at
) as spoke on true
left join chat.ended_legs as legs on legs.session_id = s.id
cross join lateral (
  select case when not chat.is_open(s.status) then s.status = 'abandoned' and first.answer_at is null end as abandoned
) as ended;

create view chat.measured_responses as
with said as (
  select
    m.session_id,
    m.sender_type,
    m.sender_id,
    m.created_at,
    count(*) filter (where m.sender_type = 'agent') over (
      partition by m.session_id order by m.created_at, m.seq rows unbounded preceding
    ) as answers
  from public.chat_messages as m
  where m.sender_type <> 'system'
), asked as (
  select s.session_id, s.answers, min(s.created_at) as asked_at
  from said as s
  where s.sender_type = 'customer'
  group by s.session_id, s.answers
)
select a.session_id, a.asked_at, s.created_at as answered_at, s.sender_id as agent_id
from asked as a
join said as s on s.session_id = a.session_id and s.sender_type = 'agent' and s.answers = a.answers + 1;

-- Sets right what is stored about these sessions. Returns how many were wrong.
create function chat.measure_sessions(sessions uuid[])
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  wrong uuid[];
begin
  perform from public.chat_sessions as s where s.id = any (sessions) order by s.id for no key update;

  with measured as (
    update public.chat_sessions as s
    set assigned_at = m.assigned_at,
        queue_seconds = m.queue_seconds,
        agent_joined_at = m.agent_joined_at,
        wait_time_seconds = m.wait_time_seconds,
        first_response_seconds = m.first_response_seconds,
        reaction_seconds = m.reaction_seconds,
        active_seconds = m.active_seconds,
        handle_seconds = m.handle_seconds,
        abandoned = m.abandoned,
        short_abandon = m.short_abandon,
        missed = m.missed,
        dropped = m.dropped,
        transfers_count = m.transfers_count,
        requeues_count = m.requeues_count,
        unread_by_agent = m.unread_by_agent,
        unread_by_customer = m.unread_by_customer,
        unanswered_since = m.unanswered_since,
        last_message_at = m.last_message_at,
        last_message_by = m.last_message_by,
        agent_answered_at = m.agent_answered_at
    from chat.measured_sessions as m
    where s.id = any (sessions)
      and m.id = s.id
      and (
        s.assigned_at, s.queue_seconds, s.agent_joined_at, s.wait_time_seconds, s.first_response_seconds,
        s.reaction_seconds, s.active_seconds, s.handle_seconds, s.abandoned, s.short_abandon, s.missed, s.dropped,
        s.transfers_count, s.requeues_count, s.unread_by_agent, s.unread_by_customer, s.unanswered_since,
        s.last_message_at, s.last_message_by, s.agent_answered_at
      ) is distinct from (
        m.assigned_at, m.queue_seconds, m.agent_joined_at, m.wait_time_seconds, m.first_response_seconds,
        m.reaction_seconds, m.active_seconds, m.handle_seconds, m.abandoned, m.short_abandon, m.missed, m.dropped,
        m.transfers_count, m.requeues_count, m.unread_by_agent, m.unread_by_customer, m.unanswered_since,
        m.last_message_at, m.last_message_by, m.agent_answered_at
      )
    returning s.id
  )
  select array_agg(measured.id) into wrong from measured;

  with dropped as (
    delete from chat.responses as r
    where r.session_id = any (sessions)
      and not exists (
        select from chat.measured_responses as m
        where m.session_id = r.session_id
          and (m.asked_at, m.answered_at) = (r.asked_at, r.answered_at)
      )
    returning r.session_id
  )
  select wrong || array_agg(dropped.session_id) into wrong from dropped;

  with added as (
    insert into chat.responses (session_id, asked_at, answered_at, agent_id)
    select m.session_id, m.asked_at, m.answered_at, m.agent_id
    from chat.measured_responses as m
    where m.session_id = any (sessions)
    on conflict do nothing
    returning session_id
  )
  select wrong || array_agg(added.session_id) into wrong from added;

  return (select count(distinct id) from unnest(wrong) as id);
end
$$;

-- The same for one session: whether anything was wrong.
create function chat.measure(session uuid)
returns boolean
language sql
set search_path = ''
as $$
  select chat.measure_sessions(array[session]) > 0
$$;

revoke execute on all functions in schema chat from public;
grant select on chat.measured_sessions, chat.measured_responses, chat.ended_legs to service_role;
