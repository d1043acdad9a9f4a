-- A desk to measure at: people by number, and what a run leaves behind.
create schema bench;
grant usage on schema bench to public;
alter default privileges in schema bench grant all on tables to public;

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

-- The first `agents` are at the desk with so many seats each; the others are offline.
create procedure bench.seat(agents integer, seats integer)
language sql
as $$
  update public.support_agents set status = 'offline' where status <> 'offline';
  update chat.agents set capacity = seats where capacity <> seats;
  update public.support_agents
  set status = 'available'
  where user_id in (select bench.agent(n) from generate_series(1, agents) as n);
$$;

-- Everybody has gone, and left nothing.
create procedure bench.clear()
language sql
as $$
  truncate public.chat_sessions cascade;
  update chat.agents set load = 0, last_assigned_at = null;
$$;

-- What may never be: agents with more chats than seats, or another load than chats.
create function bench.wrong()
returns bigint
language sql
volatile
return (
  select count(*)
  from chat.agents as a
  left join (
    select s.agent_id, count(*) as chats
    from public.chat_sessions as s
    where s.status = 'active'
    group by s.agent_id
  ) as served on served.agent_id = a.user_id
  where a.load > a.capacity
    or a.load <> coalesce(served.chats, 0)
);

create table bench.watched (looks bigint not null, wrong bigint not null);

-- Looks again and again, each time at another snapshot.
create procedure bench.watch(seconds integer)
language plpgsql
as $$
declare
  until timestamptz := clock_timestamp() + make_interval(secs => seconds);
  looks bigint := 0;
  wrong bigint := 0;
begin
  while clock_timestamp() < until loop
    wrong := wrong + bench.wrong();
    looks := looks + 1;
    commit;
    perform pg_sleep(0.1);
  end loop;
  truncate bench.watched;
  insert into bench.watched values (looks, wrong);
end
$$;

-- Numbers the line as the worker does, some of it at a time, until all is right. Gives how many rows it wrote.
create function bench.renumber()
returns bigint
language plpgsql
as $$
declare
  written bigint;
  total bigint := 0;
begin
  loop
    written := chat.refresh_positions();
    exit when written = 0;
    total := total + written;
  end loop;
  return total;
end
$$;

create table bench.bare (
  id bigint generated always as identity primary key,
  note text not null,
  created_at timestamptz not null default now()
);

insert into auth.users (id, aud, role, email)
select p.id, 'authenticated', 'authenticated', p.id || '@example.com'
from (
  select bench.customer(n) as id from generate_series(1, :customers) as n
  union all
  select bench.agent(n) from generate_series(1, :agents) as n
) as p;

insert into public.support_agents (user_id, status)
select bench.agent(n), 'offline' from generate_series(1, :agents) as n;

analyze auth.users, public.support_agents, chat.agents;
