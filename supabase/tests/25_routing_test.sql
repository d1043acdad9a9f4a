-- Which agent is given which session: queues and members, skills, the three routings, priority, and the reasons kept.
begin;
\ir support/desk.psql
select plan(47);

create temporary table s (who text primary key, id uuid, started_at timestamptz default clock_timestamp()) on commit drop;
grant all on s to public;
create function pg_temp.session_of(name text) returns uuid language sql stable as $$ select id from s where who = name $$;
create function pg_temp.agent_of(name text) returns text language sql stable as $$
  select p.name from public.chat_sessions as c join people as p on p.id = c.agent_id where c.id = pg_temp.session_of($1)
$$;
create function pg_temp.queue(called text, tenant uuid default null) returns uuid language sql as $$
  insert into public.chat_queues (name, tenant_id) values (called, tenant) returning id
$$;
-- what a customer asks for when he starts; comes back as the database
create function pg_temp.turn_to(name text, queue uuid default null, skills text[] default '{}') returns public.chat_sessions
language plpgsql as $$
declare
  session public.chat_sessions;
begin
  perform pg_temp.act_as(name);
  insert into public.chat_sessions (customer_name, customer_email, queue_id, required_skills)
  values ('x', 'x', queue, skills)
  returning * into session;
  insert into s (who, id) values (name, session.id) on conflict on constraint s_pkey do update set id = excluded.id;
  perform pg_temp.settle();
  perform pg_temp.act_as('nobody');
  return session;
end
$$;
create function pg_temp.leave(who text) returns void language sql as $$
  update public.chat_sessions set status = 'ended' where id = pg_temp.session_of(who) and status in ('waiting', 'active')
$$;

-- a desk that sets nothing up
select is((pg_temp.turn_to('carla')).queue_id, '00000000-0000-4000-8000-000000000137', 'who names no queue goes to the default one');
select is(details ->> 'reason', 'nobody who suits is available', 'the history says why nobody was free')
from chat.events where kind = 'queued' and session_id = pg_temp.session_of('carla');
select pg_temp.available('anna', 2);
select is(pg_temp.agent_of('carla'), 'anna', 'every agent serves the default queue');
select is(details ->> 'reason', 'first in line when the agent became available', '... and the history says why he')
from chat.events where kind = 'assigned' and session_id = pg_temp.session_of('carla');
select ok(latency < interval '1 minute', '... and how long it took') from chat.assignments where session_id = pg_temp.session_of('carla');
select throws_ok($$ delete from public.chat_queues where is_default $$, '23514', null, 'the default queue stays');
select pg_temp.leave('carla');

-- members
create temporary table q (name text primary key, id uuid) on commit drop;
insert into q values ('sales', pg_temp.queue('Sales')), ('beta', pg_temp.queue('Beta desk', 'bbbbbbbb-0000-4000-8000-000000000000'));
select is((pg_temp.turn_to('carla', (select id from q where name = 'sales'))).agent_id, pg_temp.person('anna'), 'a queue without members is everybody''s');
select pg_temp.leave('carla');
insert into public.chat_queue_members (queue_id, agent_id) select id, pg_temp.person('albert') from q where name = 'sales';
select is((pg_temp.turn_to('carla', (select id from q where name = 'sales'))).agent_id, null, 'with members it is theirs alone');
select is(details ->> 'reason', 'nobody who suits is available', '... and he is away')
from chat.events where kind = 'queued' and session_id = pg_temp.session_of('carla');
select pg_temp.act_as('anna');
select is_empty('select from public.chat_sessions where status = ''waiting''', 'who does not serve a queue does not see its line');
select pg_temp.act_as('albert');
select isnt_empty('select from public.chat_sessions where status = ''waiting''', '... who serves it does');
select pg_temp.act_as('nobody');
select is((pg_temp.turn_to('conrad')).agent_id, pg_temp.person('anna'), 'who waits in another queue is nobody''s obstacle');
select pg_temp.available('albert', 3);
select is(pg_temp.agent_of('carla'), 'albert', 'its member serves it');
delete from public.chat_queue_members;
select is(chat.queues_of(pg_temp.person('anna'), null) @> array[(select id from q where name = 'sales')], true, 'the last member gone, it is everybody''s again');
select is((select queues from chat.agents where user_id = pg_temp.person('anna')) @> array[(select id from q where name = 'sales')], true, '... which routing knows');
select pg_temp.leave('carla');
select pg_temp.leave('conrad');

-- tenants
select is((pg_temp.turn_to('carla', (select id from q where name = 'beta'))).queue_id, '00000000-0000-4000-8000-000000000137', 'another tenant''s queue is not a customer''s to choose');
select pg_temp.leave('carla');
select is((pg_temp.turn_to('max of beta', (select id from q where name = 'beta'))).queue_id, (select id from q where name = 'beta'), 'his own is');
select pg_temp.leave('max of beta');
update public.chat_queues set is_default = true where name = 'Beta desk';
select is((pg_temp.turn_to('max of beta')).queue_id, (select id from q where name = 'beta'), 'a tenant''s default queue is its customers''');
select pg_temp.leave('max of beta');

-- skills
update chat.agents set skills = '{german}' where user_id = pg_temp.person('anna');
update chat.agents set load = 0, last_assigned_at = null where true;
select is((pg_temp.turn_to('carla', skills => '{german}')).agent_id, pg_temp.person('anna'), 'a skill is asked for');
select is((pg_temp.turn_to('conrad', skills => '{german,french}')).agent_id, null, 'all of them are');
select is(details ->> 'reason', 'nobody suits this session', '... and the history says so')
from chat.events where kind = 'queued' and session_id = pg_temp.session_of('conrad');
update chat.agents set skills = '{french,german,dutch}' where user_id = pg_temp.person('albert');
select is(chat.assign_next(), pg_temp.session_of('conrad'), 'who learns it serves it');
select pg_temp.leave('carla');
select pg_temp.leave('conrad');
update public.chat_queues set required_skills = '{dutch}' where name = 'Sales';
select is((pg_temp.turn_to('carla', (select id from q where name = 'sales'))).agent_id, pg_temp.person('albert'), 'a queue asks for skills too');
select pg_temp.leave('carla');

-- routing: the share of seats counts, not the number of chats
update chat.agents set capacity = 10, load = 3, last_assigned_at = now() where user_id = pg_temp.person('anna');
update chat.agents set capacity = 2, load = 1, last_assigned_at = now() - interval '1 hour' where user_id = pg_temp.person('albert');
update chat.agents set last_released_at = now() - interval '1 hour' where user_id = pg_temp.person('anna');
update chat.agents set last_released_at = now() where user_id = pg_temp.person('albert');
select is((pg_temp.turn_to('carla')).agent_id, pg_temp.person('anna'), 'least loaded: three of ten is less than one of two');
select results_eq(
  $$ select c ->> 'agent_id', (c ->> 'load')::int, (c ->> 'capacity')::int
     from chat.events, jsonb_array_elements(details -> 'candidates') as c
     where kind = 'assigned' and session_id = pg_temp.session_of('carla') $$,
  $$ values (pg_temp.person('anna')::text, 3, 10), (pg_temp.person('albert')::text, 1, 2) $$,
  'the history tells the candidates and their loads, best first');
select pg_temp.leave('carla');
update public.chat_queues set routing = 'round_robin' where is_default and tenant_id is null;
select is((pg_temp.turn_to('carla')).agent_id, pg_temp.person('albert'), 'round robin: longest without a new one');
select pg_temp.leave('carla');
update chat.agents set last_released_at = now() - interval '1 hour' where user_id = pg_temp.person('anna');
update public.chat_queues set routing = 'longest_idle' where is_default and tenant_id is null;
select is((pg_temp.turn_to('carla')).agent_id, pg_temp.person('anna'), 'longest idle: longest since a chat ended');
select pg_temp.leave('carla');

-- returning customers
update public.chat_queues set routing = 'least_loaded' where is_default and tenant_id is null;
update chat.agents set load = 0, capacity = 2, last_assigned_at = null where user_id = pg_temp.person('albert');
select is((pg_temp.turn_to('celia')).agent_id, pg_temp.person('albert'), 'he is the least loaded');
select pg_temp.act_as('albert');
select pg_temp.say(pg_temp.session_of('celia'), 'hello', 'agent');
select pg_temp.act_as('nobody');
select pg_temp.leave('celia');
update chat.agents set load = 1 where user_id = pg_temp.person('albert');
update chat.agents set load = 0 where user_id = pg_temp.person('anna');
select is((pg_temp.turn_to('celia')).agent_id, pg_temp.person('anna'), 'a returning customer is nobody special');
select pg_temp.leave('celia');
update public.chat_queues set last_agent_first = true where is_default and tenant_id is null;
select is((pg_temp.turn_to('celia')).agent_id, pg_temp.person('albert'), '... unless the queue says so');
select is(details ->> 'reason', 'knows the customer', '... which the history tells') from chat.events where kind = 'assigned' and session_id = pg_temp.session_of('celia');
select pg_temp.leave('celia');
update chat.agents set load = 2 where user_id = pg_temp.person('albert');
select is((pg_temp.turn_to('celia')).agent_id, pg_temp.person('anna'), '... and he has a seat');
select pg_temp.leave('celia');
update public.chat_queues set last_agent_first = false where is_default;

-- priority and its ageing: a point is a minute
update public.support_agents set status = 'offline';
update chat.agents set load = 0, capacity = 1 where true;
select pg_temp.turn_to('carla');
select pg_temp.turn_to('conrad');
select pg_temp.turn_to('celia');
select pg_temp.act_as('carla');
update public.chat_sessions set priority = 100 where true;
select is(priority, 0, 'a customer does not set his priority') from public.chat_sessions where id = pg_temp.session_of('carla');
select pg_temp.act_as('mary');
update public.chat_sessions set priority = 2 where id = pg_temp.session_of('celia');
select pg_temp.act_as('nobody');
select chat.refresh_positions();
select results_eq($$ select who from s join public.chat_sessions using (id) where status = 'waiting' order by queue_position $$,
  array['celia', 'carla', 'conrad'], 'a lead puts somebody first');
select is(kind, 'prioritised', 'which the history tells') from chat.events where session_id = pg_temp.session_of('celia') order by id desc limit 1;
select is(chat.place_in_line(pg_temp.session_of('conrad')), 3, 'places count who is ahead by priority');
update chat.queue set queued_at = queued_at - interval '3 minutes' where session_id = pg_temp.session_of('conrad');
select chat.move_place(c) from public.chat_sessions as c where id = pg_temp.session_of('conrad');
select is(chat.place_in_line(pg_temp.session_of('conrad')), 1, 'who waited a minute longer than priority is worth goes first');
select pg_temp.available('anna', 1);
select is(pg_temp.agent_of('conrad'), 'anna', '... and is served first');
select pg_temp.leave('conrad');
select is(pg_temp.agent_of('celia'), 'anna', 'then priority');
update public.chat_queues set priority = 5 where name = 'Sales';
update public.chat_queues set required_skills = '{}' where name = 'Sales';
select pg_temp.turn_to('max of beta', (select id from q where name = 'sales'));
select is((select queue_position from public.chat_sessions where id = pg_temp.session_of('max of beta')), 1, 'each queue and tenant has its own line');
update public.chat_sessions set status = 'waiting' where false;
select pg_temp.leave('celia');
select is(pg_temp.agent_of('max of beta'), 'anna', 'a queue''s priority counts among those an agent serves');
select pg_temp.leave('max of beta');
select is(pg_temp.agent_of('carla'), 'anna', 'nobody starves');

-- a queue that is removed loses nobody
select pg_temp.turn_to('conrad', (select id from q where name = 'sales'));
delete from public.chat_queues where name = 'Sales';
select is(queue_id, '00000000-0000-4000-8000-000000000137', 'its sessions go to the default queue') from public.chat_sessions where id = pg_temp.session_of('conrad');
select is((select queue_id from chat.queue where session_id = pg_temp.session_of('conrad') and left_at is null), '00000000-0000-4000-8000-000000000137', '... and wait there');
select pg_temp.leave('carla');
select is(pg_temp.agent_of('conrad'), 'anna', '... and are served');

-- a place that comes along with a customer is that of the session it comes to
select pg_temp.leave('conrad');
select pg_temp.turn_to('celia');
select pg_temp.act_as('anna');
update public.chat_sessions set status = 'ended' where status = 'active';
select pg_temp.act_as('nobody');
select set_config('test.earlier', pg_temp.session_of('celia')::text, true);
insert into q values ('repairs', pg_temp.queue('Repairs'));
update public.chat_queues set priority = 7 where name = 'Repairs';
update public.support_agents set status = 'offline';
select pg_temp.turn_to('celia', (select id from q where name = 'repairs'));
select pg_temp.act_as('celia');
select pg_temp.say(current_setting('test.earlier')::uuid, 'and one more thing');
select pg_temp.act_as('nobody');
select is(status::text, 'waiting', 'the earlier chat goes on') from public.chat_sessions where id = current_setting('test.earlier')::uuid;
select results_eq(
  $$ select queue_id, rank_at from chat.queue where left_at is null $$,
  $$ select c.queue_id, q.queued_at from public.chat_sessions as c join chat.queue as q on q.session_id = c.id and q.left_at is null
     where c.id = current_setting('test.earlier')::uuid $$,
  '... in its own queue, with its priority');

select * from finish();
rollback;
