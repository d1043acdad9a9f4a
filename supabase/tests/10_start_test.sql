-- A customer opens a chat.
begin;
\ir support/desk.psql
select plan(26);

-- owner, number, name
select pg_temp.available('anna', 2);
select pg_temp.act_as('carla');
create temporary table first_start on commit drop as select * from pg_temp.start_chat();
select is(customer_id, pg_temp.person('carla'), 'the caller owns the session') from first_start;
select is(status, 'active', 'with a free seat the returned row says active') from first_start;
select is(agent_id, pg_temp.person('anna'), '... and names the agent') from first_start;
select is(customer_name::text, 'Carla', 'a known user has the name of his account') from first_start;
select is(customer_email::text, 'carla@desk.test', '... and its address') from first_start;
select is(metadata #>> '{given,name}', 'Guest User', '... what he sent is kept beside') from first_start;
select matches(session_number::text, '^CHAT-\d{8}$', 'the number has the usual form') from first_start;

select throws_ok(
  $$ insert into public.chat_sessions (customer_id, customer_name, customer_email)
     values ('10000000-0000-4000-8000-000000000002', 'x', 'y') $$,
  '42501', null, 'nobody starts a chat for somebody else');
select throws_ok(
  $$ insert into public.chat_sessions (customer_name, customer_email, session_number) values ('x', 'y', 'CHAT-VIP') $$,
  '42501', null, 'nobody chooses his number');
select throws_ok(
  $$ insert into public.chat_sessions (customer_name, customer_email, rating) values ('x', 'y', 5) $$,
  '42501', null, 'nobody brings a rating along');

select pg_temp.act_as('anon');
select throws_ok(
  $$ insert into public.chat_sessions (customer_name, customer_email) values ('x', 'y') $$,
  '42501', null, 'a chat needs a user');

-- an owner left out, a status made up
select pg_temp.act_as('conrad');
insert into public.chat_sessions (customer_name, customer_email, status) values ('x', 'y', 'ended');
select is(status::text, 'active', 'a status made up is ignored; an owner left out is the caller')
from public.chat_sessions where customer_id = pg_temp.person('conrad');

-- the waiting room
select pg_temp.act_as('celia');
create temporary table third_start on commit drop as select * from pg_temp.start_chat();
select is(status, 'active', 'open waiting room: the returned row says active') from third_start;
select is(agent_id, null, '... with no agent') from third_start;
select pg_temp.settle();
select is(s.status::text, 'waiting', '... the stored row says waiting') from public.chat_sessions s join third_start using (id);
select is(s.queue_position, 1, '... with its place') from public.chat_sessions s join third_start using (id);
select lives_ok(
  $$ select pg_temp.say((select id from third_start), 'hello?') $$, '... and the customer may write');

select pg_temp.act_as('nobody');
update chat.settings set waiting_room = 'closed';
select pg_temp.act_as('mary');
create temporary table fourth_start on commit drop as select * from pg_temp.start_chat();
select is(status, 'waiting', 'closed waiting room: the returned row says waiting') from fourth_start;
select is(queue_position, 2, '... with its place') from fourth_start;

-- numbers grow past eight digits; tenants come from the claims
select pg_temp.act_as('nobody');
update chat.settings set waiting_room = 'open';
alter sequence public.chat_session_number_seq restart 100000000;
select pg_temp.act_as('root');
select is((pg_temp.start_chat()).session_number::text, 'CHAT-100000000', 'the ninth digit is not cut off');
select is(tenant_id, null, 'no tenant in the claims, none in the session')
from public.chat_sessions where customer_id = pg_temp.person('root');
select pg_temp.act_as('max of beta');
select is((pg_temp.start_chat()).tenant_id, 'bbbbbbbb-0000-4000-8000-000000000000', 'the tenant comes from the claims');
select set_config('request.jwt.claims', json_build_object(
  'sub', pg_temp.person('max of beta'), 'role', 'authenticated', 'app_metadata', json_build_object('tenant_id', 'nonsense')
)::text, true);
select lives_ok($$ select pg_temp.start_chat() $$, 'a claim that names no tenant stops nobody');

-- who does not serve
select pg_temp.act_as('nobody');
update chat.agents set capacity = 20 where user_id = pg_temp.person('anna');
select pg_temp.act_as('anna');
select is(agent_id, null, 'nobody serves himself') from pg_temp.start_chat();
select pg_temp.act_as('nobody');
update public.support_agents set is_accepting_tickets = false;
select pg_temp.act_as('albert');
select is(agent_id, null, 'who accepts nothing gets nothing') from pg_temp.start_chat();

-- an import tells its own story
select pg_temp.act_as('service_role');
insert into public.chat_sessions (customer_name, customer_email, status, session_number, messages_count)
values ('Old', 'old@example.com', 'ended', 'CHAT-OLD', 7);
select is(messages_count, 7, 'the service role may bring in history')
from public.chat_sessions where session_number = 'CHAT-OLD';

select * from finish();
rollback;
