-- History: the audit trail of each session, and what reports are made of. Only ever added to.

alter table chat.events
  drop constraint events_kind_check,
  add constraint events_kind_check check (kind in (
    'queued',       -- put in line; details: why nobody was free
    'assigned',     -- given to agent_id; details: who else could have had it, and why this one
    'transferred',  -- from agent other_agent_id to agent_id
    'taken_over',   -- by the lead agent_id from agent other_agent_id
    'requeued',     -- back in line; details.reason: returned, rejected, unanswered, lost, transferred
    'overflowed',   -- from one queue to another after its wait
    'prioritised',  -- priority or required skills were changed
    'ended',
    'superseded',   -- by the customer's new session other_session_id
    'reopened',
    'rated',
    'erased',       -- texts, names and files are gone; details: why and how much
    'out_of_hours'  -- started while the queue was closed
  )),
  -- the agent it is about
  add column agent_id uuid,
  -- the agent it was taken from
  add column other_agent_id uuid,
  -- the queue it went to
  add column queue_id uuid,
  add column details jsonb not null default '{}';

-- Adds to the audit trail; who is doing it follows from the claims. security definer functions and triggers call it.
create function chat.record(
  session public.chat_sessions, kind text,
  agent uuid default null, other_agent uuid default null, queue uuid default null, other_session uuid default null,
  details jsonb default '{}'
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
begin
  insert into chat.events (
    session_id, kind, actor, actor_id, agent_id, other_agent_id, queue_id, other_session_id, details
  )
  values (
    session.id,
    kind,
    case
      when caller is null then 'system'
      when caller = session.customer_id then 'customer'
      when kind = 'taken_over' then 'lead'
      when caller in (session.agent_id, agent, other_agent) then 'agent'
      else 'lead'
    end,
    caller, agent, other_agent, queue, other_session, details
  );
end
$$;

-- A leg: one agent's time with one session.
alter table chat.assignments
  drop constraint assignments_outcome_check,
  add constraint assignments_outcome_check check (outcome in (
    'ended',
    'returned',     -- given back by the agent
    'rejected',     -- refused by the agent before he answered
    'unanswered',   -- taken from the agent, who did not answer
    'lost',         -- taken from the agent, who was gone
    'transferred',  -- to another agent or queue
    'taken_over',   -- by a lead
    'superseded'    -- went over to the customer's new session
  )),
  add column queue_id uuid,
  -- how long seat and customer were there for each other before this was decided
  add column latency interval,
  -- the agent's first sign: he read, typed or wrote
  add column accepted_at timestamptz,
  -- the agent's first message in this leg
  add column first_response_at timestamptz;

revoke execute on all functions in schema chat from public;
