-- One open session a customer: a reload, a second tab.
begin;
\ir support/desk.psql
select plan(19);
create temporary table s (name text primary key, id uuid) on commit drop;
grant all on s to public;

-- the agent comes along, and what he has not answered
select pg_temp.available('anna', 1);
select pg_temp.act_as('carla');
insert into s select 'first', id from pg_temp.start_chat();
select pg_temp.say((select id from s where name = 'first'), 'answered');
select pg_temp.act_as('anna');
select pg_temp.say((select id from s where name = 'first'), 'the answer', 'agent');
select pg_temp.act_as('carla');
select pg_temp.say((select id from s where name = 'first'), 'not answered');
select lives_ok($$ insert into s select 'second', id from pg_temp.start_chat() $$, 'a second start is no error');
select pg_temp.settle();

select is(status::text, 'ended', 'the earlier session ends') from public.chat_sessions where id = (select id from s where name = 'first');
select is(agent_id, pg_temp.person('anna'), 'the agent comes along') from public.chat_sessions where id = (select id from s where name = 'second');
select results_eq(
  $$ select message from public.chat_messages where session_id = (select id from s where name = 'second') order by seq $$,
  array['not answered'], 'so does what nobody answered');
select is(messages_count, 2, 'the earlier session counts what it kept') from public.chat_sessions where id = (select id from s where name = 'first');
select is(messages_count, 1, 'the later what it got') from public.chat_sessions where id = (select id from s where name = 'second');
select pg_temp.act_as('nobody');
select is(load, 1, 'one seat, not two') from chat.agents where user_id = pg_temp.person('anna');

-- the tab that is typed in wins, whichever the widget kept
select pg_temp.act_as('carla');
select lives_ok($$ select pg_temp.say((select id from s where name = 'first'), 'from the old tab') $$, 'a message in the old tab is kept');
select is(status::text, 'active', 'the chat goes on there') from public.chat_sessions where id = (select id from s where name = 'first');
select is(agent_id, pg_temp.person('anna'), '... with the same agent') from public.chat_sessions where id = (select id from s where name = 'first');
select is(status::text, 'ended', '... and no longer in the new one') from public.chat_sessions where id = (select id from s where name = 'second');
select pg_temp.act_as('nobody');
select is(load, 1, 'still one seat') from chat.agents where user_id = pg_temp.person('anna');

-- the place in line comes along
select pg_temp.act_as('conrad');
insert into s select 'conrad', id from pg_temp.start_chat();
select pg_temp.settle();
select pg_temp.act_as('celia');
insert into s select 'celia', id from pg_temp.start_chat();
select pg_temp.settle();
select pg_temp.act_as('conrad');
insert into s select 'conrad again', id from pg_temp.start_chat();
select pg_temp.settle();
select is(queue_position, 1, 'the place in line comes along') from public.chat_sessions where id = (select id from s where name = 'conrad again');
select is(status::text, 'waiting', '... and the state is true') from public.chat_sessions where id = (select id from s where name = 'conrad again');
select pg_temp.act_as('nobody');
select results_eq(
  $$ select s.name from chat.queue q join s on s.id = q.session_id where q.left_at is null order by q.queued_at $$,
  array['conrad again', 'celia'], '... for the later session alone');
select is((select count(*) from public.chat_sessions where customer_id = pg_temp.person('conrad') and status in ('waiting', 'active')),
  1::bigint, 'one open session');

-- a conflict that inserts nothing takes no seat
select pg_temp.act_as('service_role');
insert into public.chat_sessions (id, customer_name, customer_email)
select id, 'x', 'y' from s where name = 'celia'
on conflict (id) do nothing;
select pg_temp.act_as('nobody');
select is((select count(*) from chat.queue where session_id = (select id from s where name = 'celia')), 1::bigint,
  'an insert that does nothing takes no place');

-- several in one statement
select pg_temp.available('albert', 2);
select is((select count(*) from chat.queue where left_at is null), 0::bigint, 'a new agent takes the line');
select pg_temp.act_as('service_role');
insert into public.chat_sessions (customer_name, customer_email) select 'bulk', 'y' from generate_series(1, 3);
select pg_temp.settle();
select is((select count(*) from public.chat_sessions where customer_name = 'bulk' and status = 'waiting'), 3::bigint,
  'several starts in one statement take no seat twice');

select * from finish();
rollback;
