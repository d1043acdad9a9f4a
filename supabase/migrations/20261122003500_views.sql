-- What the API shows of the schema that it does not expose. The views run as their caller: the policies of 2040 decide.

create view public.chat_agents
with (security_invoker = true)
as
select
  a.user_id, a.tenant_id, a.capacity, a.load, a.skills, a.queues, a.available, a.available_since,
  a.last_assigned_at, a.last_released_at, a.last_seen_at
from chat.agents as a;

create view public.chat_session_legs
with (security_invoker = true)
as
select
  a.id, a.session_id, a.agent_id, a.queue_id, a.assigned_at, a.accepted_at, a.first_response_at, a.released_at,
  a.outcome
from chat.assignments as a;

create view public.chat_session_events
with (security_invoker = true)
as
select
  e.id, e.session_id, e.happened_at, e.kind, e.actor, e.actor_id, e.agent_id, e.other_agent_id, e.queue_id,
  e.other_session_id, e.details
from chat.events as e;

create view public.chat_settings
with (security_invoker = true)
as
select * from chat.settings;

revoke all on public.chat_agents, public.chat_session_legs, public.chat_session_events, public.chat_settings
  from anon, authenticated, service_role;
grant select on public.chat_agents, public.chat_session_legs, public.chat_session_events, public.chat_settings
  to authenticated, service_role;
grant update (capacity, skills) on public.chat_agents to authenticated, service_role;
grant update on public.chat_settings to authenticated, service_role;
grant update on chat.settings to authenticated;

revoke all on function
  public.chat_take(uuid), public.chat_transfer(uuid, uuid, uuid, text), public.chat_requeue(uuid, text),
  public.chat_reject(uuid, text)
from public, anon;
grant execute on function
  public.chat_take(uuid), public.chat_transfer(uuid, uuid, uuid, text), public.chat_requeue(uuid, text),
  public.chat_reject(uuid, text)
to authenticated, service_role;
