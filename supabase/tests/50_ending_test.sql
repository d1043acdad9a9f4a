-- How a chat ends, what is measured, and how it is rated.
begin;
\ir support/desk.psql
select plan(30);
create temporary table s (name text primary key, id uuid) on commit drop;
grant all on s to public;

select pg_temp.available('anna', 2);
select pg_temp.act_as('carla');
insert into s select 'carla', id from pg_temp.start_chat();
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_sessions set started_at = now() - interval '100 seconds';
set local session_replication_role = origin;

-- a customer may not steer
select pg_temp.act_as('carla');
create temporary table before_steering on commit drop as select * from public.chat_sessions;
select lives_ok(
  $$ update public.chat_sessions set agent_id = pg_temp.person('albert'), status = 'active',
       agent_joined_at = '2001-01-01', wait_time_seconds = 1, tags = '{vip}', metadata = '{"vip": true}' $$,
  'a customer who steers meets no error');
select results_eq('select * from public.chat_sessions', 'select * from before_steering', '... and changes nothing');
update public.chat_sessions set rating = 5 where true;
select is(rating, null, 'an open chat is not rated') from public.chat_sessions;
select throws_ok($$ update public.chat_sessions set customer_id = pg_temp.person('conrad') $$, '42501', null, 'a session is not given away');

-- the portal's end, with the browser's numbers
select pg_temp.act_as('anna');
select pg_temp.say((select id from s), 'hello', 'agent');
insert into public.chat_typing_indicators (session_id, user_id) values ((select id from s), auth.uid());
select pg_temp.act_as('carla');
select lives_ok(
  $$ update public.chat_sessions set status = 'ended', ended_at = '2001-01-01', chat_duration_seconds = -7,
       wait_time_seconds = -9, rating = 4, feedback_comment = 'fine', feedback_submitted_at = '2001-01-01' $$,
  'the customer ends the chat');
select is(status::text, 'ended', 'served: ended') from public.chat_sessions;
select cmp_ok(ended_at, '>=', now(), 'the server says when') from public.chat_sessions;
select is(chat_duration_seconds, 100, '... and how long') from public.chat_sessions;
select is(wait_time_seconds, 100, '... and how long he waited') from public.chat_sessions;
select is(rating, 4, 'rated') from public.chat_sessions;
select is(feedback_comment, 'fine', '... with words') from public.chat_sessions;
select cmp_ok(feedback_submitted_at, '>=', now(), '... now') from public.chat_sessions;
select is_empty('select from public.chat_typing_indicators where is_typing', 'nobody types any more');
select is_empty($$ select from public.chat_messages where sender_type = 'system' $$, 'who left himself is told nothing');

-- again, and too late
create temporary table after_end on commit drop as select ended_at, chat_duration_seconds from public.chat_sessions;
select lives_ok($$ update public.chat_sessions set status = 'ended', ended_at = now() + interval '1 hour' $$, 'ending twice is no error');
select results_eq('select ended_at, chat_duration_seconds from public.chat_sessions', 'select * from after_end', '... and changes nothing');
update public.chat_sessions set status = 'active' where true;
select is(status::text, 'ended', 'a customer reopens by writing, not by saying so') from public.chat_sessions;
update public.chat_sessions set rating = 2, feedback_comment = null where true;
select is(rating, 2, 'the last rating counts') from public.chat_sessions;
select throws_ok($$ update public.chat_sessions set rating = 6 $$, '23514', null, 'five is the most');
select pg_temp.act_as('anna');
update public.chat_sessions set rating = 5 where true;
select is(rating, 2, 'an agent does not rate') from public.chat_sessions;
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_sessions set ended_at = now() - interval '8 days';
set local session_replication_role = origin;
select pg_temp.act_as('carla');
update public.chat_sessions set rating = 1 where true;
select is(rating, 2, 'after a week it is too late') from public.chat_sessions;

-- leaving unserved
select pg_temp.act_as('conrad');
insert into s select 'conrad', id from pg_temp.start_chat();
update public.chat_sessions set status = 'ended' where id = (select id from s where name = 'conrad');
select is(status::text, 'abandoned', 'leaving before an answer is abandoning') from public.chat_sessions where id = (select id from s where name = 'conrad');
select is(wait_time_seconds, null, '... with no wait to speak of') from public.chat_sessions where id = (select id from s where name = 'conrad');

-- the agent ends
select pg_temp.act_as('celia');
insert into s select 'celia', id from pg_temp.start_chat();
select pg_temp.act_as('anna');
update public.chat_sessions set status = 'ended', tags = '{spam}' where id = (select id from s where name = 'celia');
select is(status::text, 'ended', 'an agent''s end is an end') from public.chat_sessions where id = (select id from s where name = 'celia');
select is(tags, '{spam}', '... and he may tag') from public.chat_sessions where id = (select id from s where name = 'celia');

-- a stranger ends nothing
select pg_temp.act_as('celia');
select set_config('test.session', (select id::text from s where name = 'celia'), true);
select pg_temp.act_as('conrad');
update public.chat_sessions set status = 'ended', feedback_comment = 'x' where id = current_setting('test.session')::uuid;
select pg_temp.act_as('nobody');
select is(feedback_comment, null, 'a stranger touches nothing') from public.chat_sessions where id = current_setting('test.session')::uuid;

-- history: who ended what
select results_eq(
  $$ select s.name, e.kind, e.actor from chat.events e join s on s.id = e.session_id where e.kind = 'ended' order by e.id $$,
  $$ values ('carla', 'ended', 'customer'), ('conrad', 'ended', 'customer'), ('celia', 'ended', 'agent') $$,
  'the history says who ended what');

-- silence
select pg_temp.act_as('carla');
insert into s select 'idle', id from pg_temp.start_chat();
select pg_temp.act_as('nobody');
select is(chat.end_idle(), null, 'a fresh chat is not idle');
set local session_replication_role = replica;
update public.chat_sessions set updated_at = now() - interval '2 days' where id = (select id from s where name = 'idle');
set local session_replication_role = origin;
select is(chat.end_idle(), (select id from s where name = 'idle'), 'a silent one ends');
select is(load, 0, 'every seat is free again') from chat.agents where user_id = pg_temp.person('anna');

select * from finish();
rollback;
