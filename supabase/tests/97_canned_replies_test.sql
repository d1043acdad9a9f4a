-- Canned replies: who writes and reads them, which one a shortcut means, and how they are filled in and counted.
begin;
\ir support/desk.psql
select plan(36);
delete from public.chat_canned_replies;
update auth.users set raw_app_meta_data = '{"tenant_id": "bbbbbbbb-0000-4000-8000-000000000000"}' where id = pg_temp.person('celia');
insert into public.chat_queues (id, tenant_id, name) values
  ('99999999-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000000', 'Billing'),
  ('99999999-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000000', 'Of Alpha');
create function pg_temp.add(shortcut text, body text, tenant uuid default null, queue uuid default null)
returns public.chat_canned_replies language sql
as $$
  insert into public.chat_canned_replies (shortcut, title, body, tenant_id, queue_id)
  values (shortcut, 'Title', body, tenant, queue) returning *
$$;

-- writing
select pg_temp.act_as('mary');
select is(tenant_id, null, 'a lead of all tenants writes for all') from pg_temp.add('hello', 'all');
select pg_temp.act_as('max of beta');
select is(tenant_id, 'bbbbbbbb-0000-4000-8000-000000000000'::uuid, 'a lead of one tenant writes for his own') from pg_temp.add('hello', 'beta');
select is(created_by, pg_temp.person('max of beta'), '... under his name') from public.chat_canned_replies where body = 'beta';
select throws_ok($$ select pg_temp.add('x', 'x', 'aaaaaaaa-0000-4000-8000-000000000000') $$, '42501', null, '... not for another');
select throws_ok($$ select pg_temp.add('x', 'x', null, '99999999-0000-4000-8000-000000000002') $$, '23514', 'queue 99999999-0000-4000-8000-000000000002 belongs to another tenant', '... nor for its queue');
select lives_ok($$ select pg_temp.add('hello', 'billing', null, '99999999-0000-4000-8000-000000000001') $$, 'a queue has its own');
select throws_ok($$ select pg_temp.add('hello', 'again') $$, '23505', 'duplicate key value violates unique constraint "chat_canned_replies_one_per_shortcut"', 'a shortcut means one reply');
select throws_ok($$ select pg_temp.add('Hello', 'x') $$, '23514', null, 'a shortcut is small');
select throws_ok($$ select pg_temp.add('hel lo', 'x') $$, '23514', null, '... and one word');
select throws_ok($$ select pg_temp.add('long', repeat('x', 4001)) $$, '23514', null, 'a body is no longer than a message');
select throws_ok($$ select pg_temp.add('blank', ' ') $$, '23514', null, '... nor blank');
select throws_ok($$ update public.chat_canned_replies set uses_count = 7 $$, '42501', null, 'nobody writes the count');
update public.chat_canned_replies set title = 'Hello';
select is((select array_agg(body order by body) from public.chat_canned_replies where title = 'Hello'), '{beta,billing}', 'a lead changes what is his tenant''s');
delete from public.chat_canned_replies;
select is((select array_agg(body) from public.chat_canned_replies), '{all}', '... and deletes it');
select pg_temp.add('hello', 'beta');
select pg_temp.add('hello', 'billing', null, '99999999-0000-4000-8000-000000000001');

-- reading
select pg_temp.act_as('agnes of beta');
select is((select count(*) from public.chat_canned_replies), 3::bigint, 'an agent reads his tenant''s and those of all');
select throws_ok($$ select pg_temp.add('mine', 'x') $$, '42501', null, '... and writes none');
select pg_temp.act_as('max of beta');
select pg_temp.act_as('root');
select pg_temp.add('alpha', 'alpha', 'aaaaaaaa-0000-4000-8000-000000000000');
select pg_temp.act_as('agnes of beta');
select is_empty($$ select from public.chat_canned_replies where shortcut like 'al%' $$, '... not another tenant''s');
select pg_temp.act_as('anna');
select is((select count(*) from public.chat_canned_replies), 4::bigint, 'who serves all tenants reads all');
select pg_temp.act_as('celia');
select is_empty($$ select from public.chat_canned_replies $$, 'a customer reads none');
select pg_temp.act_as('anon');
select throws_ok($$ select from public.chat_canned_replies $$, '42501', null, '... nor does anybody else');

-- the narrowest
select pg_temp.act_as('nobody');
select pg_temp.available('agnes of beta');
select pg_temp.act_as('celia');
select set_config('test.session', (select id::text from pg_temp.start_chat()), true);
create function pg_temp.reply(shortcut text) returns text language sql
as $$ select public.chat_canned_reply(shortcut, current_setting('test.session')::uuid) $$;
select throws_ok($$ select pg_temp.reply('hello') $$, '42501', 'there is no such session, or you do not serve it', 'a customer gets none');
select pg_temp.act_as('agnes of beta');
select is(pg_temp.reply('hello'), 'beta', 'the tenant''s goes before that of all');
select pg_temp.act_as('nobody');
update public.chat_sessions set queue_id = '99999999-0000-4000-8000-000000000001' where id = current_setting('test.session')::uuid;
select pg_temp.act_as('agnes of beta');
select is(pg_temp.reply('HELLO'), 'billing', 'the queue''s before the tenant''s');
select is(pg_temp.reply('alpha'), null, 'another tenant''s is none');
select pg_temp.act_as('max of beta');
select is(pg_temp.reply('hello'), 'billing', 'leads get replies too');
select pg_temp.act_as('anna');
select throws_ok($$ select pg_temp.reply('hello') $$, '42501', null, 'other agents do not');

-- filled in
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_sessions set customer_name = '{{agent_name}} \1 &' where id = current_setting('test.session')::uuid;
set local session_replication_role = origin;
select pg_temp.add('vars', e'Hi {{customer_name}},\n{{ agent_name }} of {{queue}}, {{session_number}} {{order}} {{ {}} {{customer_name}}');
select pg_temp.act_as('agnes of beta');
select is(pg_temp.reply('vars'), format(e'Hi {{agent_name}} \\1 &,\nAgnes Of Beta of Billing, %s {{order}} {{ {}} {{agent_name}} \\1 &', s.session_number),
  'variables are filled in, once, and others stay') from public.chat_sessions as s where s.id = current_setting('test.session')::uuid;

-- counted
select pg_temp.act_as('nobody');
select is(uses_count, 0::bigint, 'a use waits for nobody') from public.chat_canned_replies where body = 'billing';
create temporary table before on commit drop as select id, updated_at from public.chat_canned_replies;
select is(chat.count_canned_reply_uses(), 4::bigint, 'the worker counts them');
select is(chat.count_canned_reply_uses(), 0::bigint, '... once');
select is(uses_count, 2::bigint, '... for each reply') from public.chat_canned_replies where body = 'billing';
select ok(last_used_at > created_at, '... and when it was') from public.chat_canned_replies where body = 'billing';
select is((select count(*) from public.chat_canned_replies join before using (id, updated_at)), 5::bigint, 'a count is no change');

-- as the agent types
set local enable_seqscan = off;
create function pg_temp.plan(statement text) returns setof text language plpgsql
as $$ begin return query execute 'explain ' || statement; end $$;
select isnt_empty($$ select from pg_temp.plan($q$ select from public.chat_canned_replies where shortcut like 'he%' $q$) as line where line like '%chat_canned_replies_prefix%' $$,
  'a search by the beginning goes by the index');
delete from auth.users where id = pg_temp.person('max of beta');
select is(created_by, null, 'a reply outlives its author') from public.chat_canned_replies where body = 'billing';
select is((select count(*) from public.chat_canned_replies), 5::bigint, '... all do');

select * from finish();
rollback;
