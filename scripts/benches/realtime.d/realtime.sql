-- Chats to listen to: each customer talks to an agent of his own. And the same without any rule of the chat's, to see
-- the limit of what delivers rather than of those who write.
create schema bench;
grant usage on schema bench to public;

create function bench.customer(number bigint)
returns uuid
language sql
immutable
return ('00000000-0000-4000-9000-' || lpad(number::text, 12, '0'))::uuid;

create function bench.agent(number bigint)
returns uuid
language sql
immutable
return ('00000000-0000-4000-a000-' || lpad(number::text, 12, '0'))::uuid;

-- What the gateway sets before a caller's statement.
create function bench.enter(caller uuid)
returns text
language sql
volatile
return set_config('role', 'authenticated', true)
  || set_config('request.jwt.claims', '{"role":"authenticated","sub":"' || caller || '"}', true);

-- Customers start, one transaction each, as they do; everybody is given an agent.
create procedure bench.start(chats integer)
language plpgsql
as $$
begin
  for n in 0 .. chats - 1 loop
    perform bench.enter(bench.customer(n));
    insert into public.chat_sessions (customer_id, customer_name, customer_email, status, page_url, user_agent)
    values (bench.customer(n), 'Guest User', 'guest@example.com', 'waiting', 'https://example.com/', 'bench');
    commit;
  end loop;
end
$$;

-- Somebody writes into a chat, as himself.
create function bench.write(session uuid, sender uuid, kind text, text text)
returns void
language plpgsql
as $$
begin
  perform bench.enter(sender);
  insert into public.chat_messages (session_id, sender_id, sender_type, message)
  values (session, sender, kind, text);
end
$$;

insert into auth.users (id, aud, role, email)
select p.id, 'authenticated', 'authenticated', p.id || '@example.com'
from (
  select bench.customer(n) as id from generate_series(0, $chats - 1) as n
  union all
  select bench.agent(n) from generate_series(0, $chats - 1) as n
) as p;

insert into public.support_agents (user_id, status)
select bench.agent(n), 'offline' from generate_series(0, $chats - 1) as n;

update chat.agents set capacity = 1;
update public.support_agents set status = 'available';
analyze auth.users, public.support_agents, chat.agents;

call bench.start($chats);
vacuum analyze public.chat_sessions, chat.agents, chat.queue, chat.assignments;

-- The bare ones. The policy is the plain one of a chat without queues and leads.
create table public.bench_sessions (
  id uuid primary key,
  customer_id uuid not null,
  agent_id uuid not null
);

create table public.bench_messages (
  id uuid primary key default gen_random_uuid(),
  session_id uuid not null,
  sender_id uuid,
  sender_type text not null,
  message text not null,
  message_type text default 'text',
  is_read boolean default false,
  created_at timestamptz default clock_timestamp()
);

alter table public.bench_sessions enable row level security;
alter table public.bench_messages enable row level security;

create policy "Both see their session"
  on public.bench_sessions for select
  to authenticated
  using (customer_id = (select auth.uid()) or agent_id = (select auth.uid()));

create policy "Both see the messages of their session"
  on public.bench_messages for select
  to authenticated
  using (exists (
    select from public.bench_sessions as s
    where s.id = bench_messages.session_id
      and (s.customer_id = (select auth.uid()) or s.agent_id = (select auth.uid()))
  ));

grant select on public.bench_sessions, public.bench_messages to authenticated;
alter publication supabase_realtime add table public.bench_messages;

insert into public.bench_sessions
select id, customer_id, agent_id from public.chat_sessions where customer_id is not null and agent_id is not null;
vacuum analyze public.bench_sessions;
