-- A message sent again is heard once; limits are asked of what is new.
begin;
\ir support/desk.psql
select plan(13);
create temporary table s (name text primary key, id uuid) on commit drop;
grant all on s to public;

select pg_temp.available('anna');
select pg_temp.act_as('carla');
insert into s select 'carla', id from pg_temp.start_chat();

prepare say as
  insert into public.chat_messages (session_id, sender_id, sender_type, message, client_id)
  values ((select id from s), pg_temp.person('carla'), 'customer', $1, 'c0000000-0000-4000-8000-000000000001');
prepare say_once as
  insert into public.chat_messages (session_id, sender_id, sender_type, message, client_id)
  values ((select id from s), pg_temp.person('carla'), 'customer', $1, 'c0000000-0000-4000-8000-000000000001')
  on conflict (sender_id, client_id) do nothing;

select lives_ok($$ execute say('hello') $$, 'a client names its message');
select throws_ok($$ execute say('hello') $$, '23505', null, 'the same again is a duplicate');
select lives_ok($$ execute say_once('hello') $$, '... or passed over');
select is(count(*), 1::bigint, 'it is there once') from public.chat_messages where message = 'hello';
select is(messages_count, 1, '... and counted once') from public.chat_sessions;
select lives_ok(
  $$ insert into public.chat_messages (session_id, sender_type, message) select id, 'customer', 'no id' from s, generate_series(1, 2) $$,
  'nobody needs one');
select pg_temp.act_as('anna');
select lives_ok(
  $$ insert into public.chat_messages (session_id, sender_type, message, client_id)
     select id, 'agent', 'hello too', 'c0000000-0000-4000-8000-000000000001' from s $$,
  'another''s ids are his own');

-- limits
select throws_ok($$ insert into public.chat_messages (session_id, sender_type, message) select id, 'agent', '' from s $$,
  '23514', 'new row for relation "chat_messages" violates check constraint "chat_messages_not_blank"',
  'a limit speaks as a check does');
select throws_ok(
  $$ insert into public.chat_messages (session_id, sender_type, message, metadata)
     select id, 'agent', 'x', (select jsonb_agg(md5(i::text)) from generate_series(1, 1000) as i) from s $$,
  '23514', null, 'metadata have one');
select throws_ok($$ update public.chat_sessions set metadata = (select jsonb_agg(md5(i::text)) from generate_series(1, 1000) as i) $$,
  '23514', null, '... of sessions too');
select pg_temp.act_as('carla');
select throws_ok(
  $$ insert into public.chat_sessions (customer_name, customer_email, page_url) values ('c', 'c', repeat('x', 4001)) $$,
  '23514', null, 'and addresses of pages');

-- what an earlier schema let in
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_messages set message = ' ', metadata = (select jsonb_agg(md5(i::text)) from generate_series(1, 1000) as i)
where message = 'hello';
update public.chat_sessions set page_url = repeat('x', 4001);
set local session_replication_role = origin;
select pg_temp.act_as('anna');
update public.chat_messages set is_read = true where message = ' ';
select is(is_read, true, 'what is longer already can still be read') from public.chat_messages where message = ' ';
select lives_ok($$ insert into public.chat_messages (session_id, sender_type, message) select id, 'agent', 'x' from s $$,
  '... and its session written to');

select * from finish();
rollback;
