-- What is said, by whom, and when.
begin;
\ir support/desk.psql
select plan(37);
create temporary table s (name text primary key, id uuid) on commit drop;
grant all on s to public;

select pg_temp.available('anna');
select pg_temp.act_as('carla');
insert into s select 'carla', id from pg_temp.start_chat();

-- whose message it is
select is((pg_temp.say((select id from s), 'I am your agent', 'agent')).sender_type::text, 'customer', 'a customer is no agent, whatever he says');
select is((pg_temp.say((select id from s), 'I am the system', 'system')).sender_type::text, 'customer', '... nor the system');
insert into public.chat_messages (session_id, sender_type, message, message_type)
values ((select id from s), 'customer', 'a notice', 'system');
select is(message_type::text, 'text', '... in no way') from public.chat_messages where message = 'a notice';
select is(sender_id, pg_temp.person('carla'), 'a sender left out is the caller') from public.chat_messages where message = 'a notice';
select throws_ok($$ insert into public.chat_messages (session_id, sender_id, sender_type, message)
  values ((select id from s), pg_temp.person('anna'), 'agent', 'x') $$, '42501', null, 'nobody speaks for another');
select throws_ok($$ insert into public.chat_messages (session_id, sender_type, message, created_at)
  values ((select id from s), 'customer', 'x', '2001-01-01') $$, '42501', null, 'nobody chooses the time');
select throws_ok($$ insert into public.chat_messages (session_id, sender_type, message, is_read)
  values ((select id from s), 'customer', 'x', true) $$, '42501', null, 'nobody''s words come read');

-- how long
select throws_ok($$ select pg_temp.say((select id from s), E' \n\t ') $$, '23514', null, 'blank is not said');
select throws_ok($$ select pg_temp.say((select id from s), '') $$, '23514', null, 'nor is nothing');
select lives_ok($$ select pg_temp.say((select id from s), repeat('ü', 4000)) $$, '4,000 characters are');
select throws_ok($$ select pg_temp.say((select id from s), repeat('ü', 4001)) $$, '23514', null, '4,001 are not');

-- counting: the policies of sessions do not stop it
select is(messages_count, 4, 'the session counts') from public.chat_sessions;
select is(agent_joined_at, null, 'nobody has joined') from public.chat_sessions;
select cmp_ok(max(seq) - min(seq), '>=', 3::bigint, 'order grows') from public.chat_messages;
select is_empty(
  $$ select a.seq from public.chat_messages a join public.chat_messages b on a.seq < b.seq and a.created_at > b.created_at $$,
  '... with the time');

-- the agent's first words
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_sessions set started_at = now() - interval '90 seconds';
set local session_replication_role = origin;
select pg_temp.act_as('anna');
select is((pg_temp.say((select id from s), 'hello', 'customer')).sender_type::text, 'agent', 'an agent is an agent, whatever he says');
select isnt(agent_joined_at, null, 'the first words of the agent are his joining') from public.chat_sessions;
select is(wait_time_seconds, 90, '... and end the wait') from public.chat_sessions;
create temporary table joined on commit drop as select agent_joined_at from public.chat_sessions;
select pg_temp.say((select id from s), 'anything else?', 'agent');
update public.chat_sessions set agent_joined_at = '2030-01-01' where id = (select id from s);
select is(c.agent_joined_at, joined.agent_joined_at, 'once, by the server''s clock') from public.chat_sessions c, joined;

-- reading
update public.chat_messages set is_read = true where sender_type = 'customer';
select is(count(*) filter (where is_read and read_at is not null), 4::bigint, 'the other party marks as read; the server says when')
from public.chat_messages;
update public.chat_messages set is_read = true where sender_type = 'agent';
select is(count(*) filter (where is_read), 0::bigint, 'one''s own words stay unread') from public.chat_messages where sender_type = 'agent';
update public.chat_messages set is_read = false where sender_type = 'customer';
select is(count(*) filter (where is_read), 4::bigint, 'read stays read') from public.chat_messages where sender_type = 'customer';
select throws_ok($$ update public.chat_messages set message = 'x' $$, '42501', null, 'what was said stays said');
select throws_ok($$ delete from public.chat_messages $$, '42501', null, '... and is not unsaid');

-- late words
select pg_temp.act_as('anna');
update public.chat_sessions set status = 'ended' where id = (select id from s);
select pg_temp.act_as('carla');
select is(message, 'This chat has ended.', 'the customer hears that the agent ended')
from public.chat_messages where sender_type = 'system';
select lives_ok($$ select pg_temp.say((select id from s), 'one more thing') $$, 'late words are kept');
select is(status::text, 'active', '... and reopen the session') from public.chat_sessions;
select is(agent_id, pg_temp.person('anna'), '... with the same agent') from public.chat_sessions;
select is(ended_at, null, '... which has not ended') from public.chat_sessions;

update public.chat_sessions set status = 'ended' where id = (select id from s);
select lives_ok($$ select pg_temp.say((select id from s), 'crossed my leaving') $$, 'last words are kept');
select is(status::text, 'ended', '... and do not call the customer back who left') from public.chat_sessions;

select pg_temp.act_as('nobody');
update chat.settings set reopen_within = '-1 second';
select pg_temp.act_as('carla');
select lives_ok($$ select pg_temp.say((select id from s), 'next week') $$, 'words after the grace time are kept');
select is(message, 'This chat is closed. Please start a new one to reach us.', '... and answered')
from public.chat_messages order by seq desc limit 1;
select is(status::text, 'ended', '... and reopen nothing') from public.chat_sessions;

select pg_temp.act_as('service_role');
insert into public.chat_messages (session_id, sender_id, sender_type, message, created_at)
select id, pg_temp.person('carla'), 'customer', 'from the archive', '2001-01-01' from s;
select is(count(*), 2::bigint, 'history brought in is not answered')
from public.chat_messages where created_at > now() and sender_type = 'system';

-- strangers
select pg_temp.act_as('conrad');
select throws_ok($$ select pg_temp.say('00000000-0000-4000-8000-000000000000', 'x') $$, '42501', null, 'no session, no message');
create temporary table theirs on commit drop as select 1;
select pg_temp.act_as('nobody');
select set_config('test.session', (select id::text from s), true);
select pg_temp.act_as('conrad');
select throws_ok($$ select pg_temp.say(current_setting('test.session')::uuid, 'let me in') $$, '42501', null, 'a stranger says nothing');

select * from finish();
rollback;
