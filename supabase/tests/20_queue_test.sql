-- Who is served, by whom, and when.
begin;
\ir support/desk.psql
select plan(37);

create function pg_temp.start_as(who text) returns uuid
language plpgsql
as $$
declare
  session uuid;
begin
  perform pg_temp.act_as(who);
  session := (select s.id from pg_temp.start_chat() as s);
  perform pg_temp.settle();
  perform pg_temp.act_as('nobody');
  return session;
end
$$;

create function pg_temp.agent_of(session uuid) returns text
language sql stable
as $$ select p.name from public.chat_sessions s join people p on p.id = s.agent_id where s.id = session $$;

create temporary table started (who text primary key, id uuid) on commit drop;
grant all on started to public;

-- selection: fewest chats for the capacity, then longest without one
select pg_temp.available('anna', 4);
select pg_temp.available('albert', 1);
insert into started values ('carla', pg_temp.start_as('carla'));
insert into started values ('conrad', pg_temp.start_as('conrad'));
select isnt(
  (select pg_temp.agent_of(id) from started where who = 'carla'),
  (select pg_temp.agent_of(id) from started where who = 'conrad'),
  'the second chat goes to the other agent');
insert into started values ('celia', pg_temp.start_as('celia'));
select is((select pg_temp.agent_of(id) from started where who = 'celia'), 'anna', 'the third to who has the larger share free');
select is((select array_agg(a.load order by p.name) from chat.agents a join people p on p.id = a.user_id
  where p.name in ('anna', 'albert')), '{1,2}', 'loads are counted');

-- capacity
select throws_ok(
  $$ update chat.agents set load = load + 1 where user_id = pg_temp.person('albert') $$,
  '23514', null, 'no agent takes more than his capacity');
select lives_ok(
  $$ update chat.agents set capacity = 1 where user_id = pg_temp.person('anna') $$,
  'a capacity may be set below the present load');

-- the line
insert into started values ('mary', pg_temp.start_as('mary'));
insert into started values ('root', pg_temp.start_as('root'));
select is(status::text, 'waiting', 'nobody is free: the next waits')
from public.chat_sessions join started using (id) where who = 'mary';
select results_eq(
  $$ select queue_position from public.chat_sessions join started using (id) where status = 'waiting' order by started_at $$,
  '{1,2}'::integer[], 'places are numbered');

-- a seat given up goes to the head of the line in the same transaction
select pg_temp.act_as('conrad');
update public.chat_sessions set status = 'ended' where customer_id = auth.uid();
select pg_temp.act_as('nobody');
select is((select pg_temp.agent_of(id) from started where who = 'mary'), 'albert', 'the head of the line gets the free seat');
select is(status::text, 'active', '... and is active') from public.chat_sessions join started using (id) where who = 'mary';
select is(queue_position, null, '... with no place') from public.chat_sessions join started using (id) where who = 'mary';
select is(chat.refresh_positions(), 1::bigint, 'those behind move up');
select is(queue_position, 1, '... by one') from public.chat_sessions join started using (id) where who = 'root';
select is(chat.refresh_positions(), 0::bigint, '... once');

-- nobody overtakes: a seat that came free unseen is not for who comes now
update chat.agents set capacity = 3 where user_id = pg_temp.person('anna');
insert into started values ('conrad again', pg_temp.start_as('conrad'));
select is(status::text, 'waiting', 'a start waits while somebody ahead does')
from public.chat_sessions join started using (id) where who = 'conrad again';
select is(chat.assign_next(), (select id from started where who = 'root'), '... who is served first');

-- an agent who comes takes the line along; one who goes keeps his chats
update public.support_agents set status = 'away' where user_id = pg_temp.person('anna');
select is((select count(*) from public.chat_sessions where agent_id = pg_temp.person('anna') and status = 'active'),
  3::bigint, 'going away loses no chat');
select pg_temp.act_as('anna');
update chat_sessions set status = 'ended' where id = (select id from started where who = 'carla');
select pg_temp.act_as('nobody');
select is((select pg_temp.agent_of(id) from started where who = 'conrad again'), null, 'who is away gets no chat');
update public.support_agents set status = 'available' where user_id = pg_temp.person('anna');
select is((select pg_temp.agent_of(id) from started where who = 'conrad again'), 'anna', 'who comes back does, at once');

-- an agent gives a session back: it waits, is not his again at once, and goes to another
select pg_temp.act_as('anna');
update public.chat_sessions set status = 'waiting' where id = (select id from started where who = 'conrad again');
select pg_temp.act_as('nobody');
select is(status::text, 'waiting', 'a session given back waits')
from public.chat_sessions join started using (id) where who = 'conrad again';
select is(chat.assign_next(), null, '... and not for the same agent');
update chat.agents set capacity = 2 where user_id = pg_temp.person('albert');
select is(chat.assign_next(), (select id from started where who = 'conrad again'), '... but for another');

-- a session changes hands
create function pg_temp.hand_over(whose text, to_whom text) returns void
language plpgsql
as $$
begin
  update public.chat_sessions set agent_id = pg_temp.person(to_whom), status = 'active'
  where id = (select id from started where who = whose);
  perform pg_temp.settle();
end
$$;

select pg_temp.act_as('anna');
select lives_ok($$ select pg_temp.hand_over('mary', 'anna') $$, 'an agent''s hand reaches no colleague''s chat');
select throws_ok($$ select pg_temp.hand_over('root', 'albert') $$, '23514', null, 'handing over needs a free seat');
select throws_ok($$ select pg_temp.hand_over('root', 'carla') $$, '23514', null, '... and an agent');
select pg_temp.act_as('nobody');
select is((select pg_temp.agent_of(id) from started where who = 'mary'), 'albert', '... so far nothing has changed hands');
select pg_temp.act_as('albert');
select pg_temp.hand_over('mary', 'anna');
select is_empty($$ select from public.chat_sessions where id = (select id from started where who = 'mary') $$,
  'what is handed on is out of sight');
select pg_temp.act_as('nobody');
select is((select pg_temp.agent_of(id) from started where who = 'mary'), 'anna', 'an agent hands his session on');

-- a manager takes over
select pg_temp.act_as('mary');
update public.chat_sessions set agent_id = auth.uid() where id = (select id from started where who = 'celia');
select throws_ok(
  $$ update public.chat_sessions set agent_id = pg_temp.person('carla') where id = (select id from started where who = 'celia') $$,
  '23514', null, '... nobody gives a chat to somebody who is no agent');
select pg_temp.act_as('nobody');
select is((select pg_temp.agent_of(id) from started where who = 'celia'), 'mary', 'a lead takes a session over');

-- tenants: an agent of one serves no other
update public.support_agents set status = 'offline';
select pg_temp.available('agnes of beta');
insert into started values ('carla again', pg_temp.start_as('carla'));
select is((select pg_temp.agent_of(id) from started where who = 'carla again'), null, 'an agent of a tenant serves no other');
insert into started values ('max of beta', pg_temp.start_as('max of beta'));
select is((select pg_temp.agent_of(id) from started where who = 'max of beta'), 'agnes of beta',
  '... and his own without regard to the others'' line');

-- a session deleted gives its seat up; what one statement ends it does not serve again
insert into started values ('celia again', pg_temp.start_as('celia'));
update chat.agents set capacity = 1 where user_id = pg_temp.person('agnes of beta');
delete from public.chat_sessions where agent_id = pg_temp.person('agnes of beta');
select is(load, 0, 'a session deleted gives its seat up') from chat.agents where user_id = pg_temp.person('agnes of beta');
update public.support_agents set status = 'available' where user_id = pg_temp.person('albert');
update public.chat_sessions set status = 'ended' where agent_id = pg_temp.person('albert') or status = 'waiting';
select is_empty(
  $$ select from public.chat_sessions where agent_id = pg_temp.person('albert') and status = 'active' $$,
  'what one statement ends it does not serve again');

-- whatever happened: seats and sessions agree
select is_empty(
  $$ select a.user_id from chat.agents a
     where a.load <> (select count(*) from public.chat_sessions s where s.agent_id = a.user_id and s.status = 'active') $$,
  'every load is the number of its active chats');
select is_empty(
  $$ select id from public.chat_sessions s
     where (s.status = 'waiting') <> exists (select from chat.queue q where q.session_id = s.id and q.left_at is null) $$,
  'who waits, and only he, is in line');
select is(chat.reconcile(), 0::bigint, 'nothing is to be set right');

-- what is wrong is set right
update public.support_agents set status = 'offline';
select pg_temp.start_as('carla');
update chat.agents set load = 0 where user_id = pg_temp.person('mary');
set local session_replication_role = replica;
delete from chat.queue where left_at is null;
set local session_replication_role = origin;
select cmp_ok(chat.reconcile(), '>', 0::bigint, 'a lost place in line is found again');

select * from finish();
rollback;
