-- Handing over.
--
-- Policies refuse an update that takes the row out of the caller's sight, and a session handed to a colleague leaves
-- its agent's sight. So his update leaves a note (chat.reduce_update), and the session changes hands at its end.
create table chat.handovers (
  id bigint generated always as identity primary key,
  session_id uuid not null references public.chat_sessions (id) on delete cascade,
  from_agent uuid not null,
  to_agent uuid not null,
  requested_at timestamptz not null default clock_timestamp()
);

create index handovers_session on chat.handovers (session_id);
alter table chat.handovers enable row level security;

-- security definer, and asks for itself whether the session is the caller's.
create function chat.request_handover(session uuid, to_agent uuid)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  handed public.chat_sessions;
begin
  select *
  into handed
  from public.chat_sessions as s
  where s.id = session
    and s.agent_id = auth.uid()
    and s.status = 'active';
  if not found then
    return;
  end if;
  if not exists (select from public.support_agents as a where a.user_id = to_agent)
    or not chat.may_serve(to_agent, handed.id, handed.tenant_id, handed.customer_id)
  then
    raise exception 'agent % does not serve this session', to_agent using errcode = 'check_violation';
  end if;

  insert into chat.handovers (session_id, from_agent, to_agent)
  values (session, handed.agent_id, to_agent);
end
$$;

create function chat.hand_over()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  update public.chat_sessions as s
  set agent_id = new.to_agent
  where s.id = new.session_id
    and s.agent_id = new.from_agent
    and s.status = 'active';
  return null;
end
$$;

create constraint trigger handovers_hand_over
  after insert on chat.handovers
  deferrable initially deferred
  for each row
  execute function chat.hand_over();

revoke execute on all functions in schema chat from public;
grant execute on function chat.request_handover(uuid, uuid) to authenticated;
