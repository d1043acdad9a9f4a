-- Who sees what.
begin;
\ir support/desk.psql
select plan(54);
select pg_temp.available('anna', 1);

select pg_temp.act_as('carla');
select set_config('test.session', (select id::text from pg_temp.start_chat()), true);
select pg_temp.say(current_setting('test.session')::uuid, 'my secret');
select pg_temp.act_as('conrad');
select set_config('test.waiting', (select id::text from pg_temp.start_chat()), true);
select pg_temp.settle();
select pg_temp.say(current_setting('test.waiting')::uuid, 'anybody there?');
select pg_temp.act_as('max of beta');
select set_config('test.beta', (select id::text from pg_temp.start_chat()), true);
select pg_temp.settle();

create function pg_temp.sees(who text) returns text[]
language plpgsql
as $$
declare
  seen text[];
begin
  perform pg_temp.act_as(who);
  select array_agg(case s.id
      when current_setting('test.session')::uuid then 'carla'
      when current_setting('test.waiting')::uuid then 'conrad'
      else 'max of beta'
    end order by s.id = current_setting('test.session')::uuid desc, s.id = current_setting('test.waiting')::uuid desc)
  into seen
  from public.chat_sessions as s;
  return seen;
end
$$;

select is(pg_temp.sees('carla'), '{carla}', 'a customer sees his session');
select is(pg_temp.sees('celia'), null, 'a stranger none');
select is(pg_temp.sees('anna'), '{carla,conrad,max of beta}', 'an agent of the platform sees his sessions and every line');
select is(pg_temp.sees('albert'), '{conrad,max of beta}', '... and not his colleagues''');
select is(pg_temp.sees('agnes of beta'), '{max of beta}', 'an agent of a tenant sees its line');
select is(pg_temp.sees('mary'), '{carla,conrad,max of beta}', 'a manager of the platform sees all');
select is(pg_temp.sees('max of beta'), '{max of beta}', 'a manager of a tenant sees what it has');
select is(pg_temp.sees('root'), '{carla,conrad,max of beta}', 'the platform''s administrator sees all');

-- messages follow sessions
select pg_temp.act_as('carla');
select results_eq('select message from public.chat_messages', array['my secret'], 'a customer reads his messages');
select pg_temp.act_as('celia');
select is_empty('select from public.chat_messages', 'a stranger none');
select pg_temp.act_as('albert');
select results_eq('select message from public.chat_messages', array['anybody there?'], 'an agent reads what waits');
select pg_temp.act_as('mary');
select is((select count(*) from public.chat_messages), 2::bigint, 'a manager reads all');
select pg_temp.act_as('max of beta');
select is_empty('select from public.chat_messages', 'a manager of another tenant none');

-- reading is not writing
select pg_temp.act_as('mary');
select throws_ok($$ select pg_temp.say(current_setting('test.session')::uuid, 'x', 'agent') $$, '42501', null, 'who supervises does not speak');
select pg_temp.act_as('albert');
select throws_ok($$ select pg_temp.say(current_setting('test.waiting')::uuid, 'x', 'agent') $$, '42501', null, 'nor does who looks at the line');
select lives_ok($$ update public.chat_sessions set agent_id = auth.uid() where id = current_setting('test.waiting')::uuid $$, 'he takes the session first');
select is((pg_temp.say(current_setting('test.waiting')::uuid, 'hello', 'agent')).sender_type::text, 'agent', '... and speaks');
select pg_temp.act_as('agnes of beta');
update public.chat_sessions set agent_id = auth.uid() where id = current_setting('test.session')::uuid;
select pg_temp.act_as('nobody');
select is(agent_id, pg_temp.person('anna'), 'nobody takes what another tenant has') from public.chat_sessions where id = current_setting('test.session')::uuid;

-- anon
select pg_temp.act_as('anon');
select throws_ok('select from public.chat_sessions', '42501', null, 'without a user no sessions');
select throws_ok('select from public.chat_messages', '42501', null, '... no messages');
select throws_ok('select from public.chat_typing_indicators', '42501', null, '... no typing');
select throws_ok('select from public.chat_users', '42501', null, '... no profiles');

-- the portal's question for a free agent: customers see none, so it assigns nothing itself
select pg_temp.act_as('carla');
select is_empty('select from public.support_agents', 'customers see no agent');
select is_empty('select from public.user_roles', '... and no role');
select throws_ok('delete from public.chat_sessions', '42501', null, '... and delete nothing');
select is_empty('select from chat.agents union all select from chat.events', '... and see nothing inside');
select throws_ok('select chat.assign_next()', '42501', null, '... and call nothing inside');
select throws_ok('select chat.pick_agent(null)', '42501', null, '... nothing at all');
select throws_ok($$ update public.support_agents set status = 'x'; insert into public.support_agents (user_id) values (auth.uid()) $$, '42501', null, '... and make themselves no agents');
select throws_ok($$ insert into public.user_roles (user_id, role_name) values (auth.uid(), 'platform_admin') $$, '42501', null, '... nor administrators');
select throws_ok($$ select nextval('public.chat_session_number_seq') $$, '42501', null, '... and burn no numbers');
select pg_temp.act_as('anna');
select lives_ok($$ update public.support_agents set status = 'busy' where user_id = auth.uid() $$, 'an agent says how he is');
select is(status, 'busy', '... himself') from public.support_agents where user_id = auth.uid();
update public.support_agents set status = 'busy';
select pg_temp.act_as('nobody');
select is(status, 'offline', '... and no other') from public.support_agents where user_id = pg_temp.person('albert');

select pg_temp.act_as('anna');
select is((select count(*) from public.support_agents), 3::bigint, 'agents see each other');
select pg_temp.act_as('mary');
update public.support_agents set is_accepting_tickets = false where user_id = pg_temp.person('albert');
select is(is_accepting_tickets, false, 'a manager says for others') from public.support_agents where user_id = pg_temp.person('albert');
update public.support_agents set is_accepting_tickets = true where user_id = pg_temp.person('albert');

-- profiles
select pg_temp.act_as('carla');
select results_eq(
  'select full_name, email::text from public.chat_users order by 1',
  $$ values ('Anna', null), ('Carla', 'carla@desk.test') $$,
  'a customer sees himself and his agent, without address');
select pg_temp.act_as('conrad');
select is((select email from public.chat_users where id = pg_temp.person('albert')), null, '... so does another');
select pg_temp.act_as('celia');
select results_eq('select full_name from public.chat_users', array['Celia'], 'who has no chat sees himself');
select pg_temp.act_as('albert');
select is((select email::text from public.chat_users where id = pg_temp.person('conrad')), 'conrad@desk.test', 'staff see addresses');
select pg_temp.act_as('agnes of beta');
select is_empty($$ select from public.chat_users where id = pg_temp.person('carla') $$, '... of their tenant');
select pg_temp.act_as('service_role');
select is((select count(*) from public.chat_users u join people p using (id)), 9::bigint, 'the service role sees all');

-- policies as realtime can understand them, and triggers that cannot be called
select pg_temp.act_as('nobody');
select is_empty(
  $$ select p.policyname from pg_policies p where p.schemaname = 'public' and p.tablename like 'chat\_%'
     and regexp_replace(coalesce(p.qual, '') || coalesce(p.with_check, ''), 'SELECT auth\.uid\(\)', '', 'g') ~ 'auth\.uid\(\)|now\(\)|CURRENT' $$,
  'claims are read once a statement, and no policy asks the clock');
select is_empty(
  $$ select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = 'chat' and has_function_privilege('anon', p.oid, 'execute') $$,
  'anon calls nothing inside');
select is_empty(
  $$ select p.proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
     where n.nspname = 'chat' and p.prosecdef and p.prosqlbody is null and coalesce(array_to_string(p.proconfig, ','), '') !~ 'search_path=' $$,
  'whoever runs as owner pins his search path');
select set_eq(
  $$ select tablename::text from pg_publication_tables where pubname = 'supabase_realtime' and schemaname = 'public' and tablename like 'chat\_%' $$,
  array['chat_sessions', 'chat_messages', 'chat_typing_indicators'], 'the three tables are published');

-- updates reach no further than sight, whatever their filter
select pg_temp.act_as('celia');
update public.chat_sessions set status = 'ended', rating = 1, agent_id = auth.uid() where true;
select pg_temp.act_as('albert');
update public.chat_sessions set tags = '{mine}' where id = current_setting('test.session')::uuid;
select pg_temp.act_as('nobody');
select is_empty(
  $$ select from public.chat_sessions where status = 'ended' or tags is not null or agent_id = pg_temp.person('celia') $$,
  'updates reach no further than sight');
select bag_eq(
  $$ select p.polrelid::regclass::text, p.polname::text, p.polpermissive, p.polroles::regrole[]::text from pg_policy p
     where p.polrelid::regclass::text in ('chat_sessions', 'chat_messages', 'chat_typing_indicators')
       and coalesce(pg_get_expr(p.polqual, p.polrelid), 'true') || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'truetrue' $$,
  $$ values ('', '', true, '') limit 0 $$, 'no policy lets everybody');
set local role service_role;
select lives_ok($$ select (select chat.is_lead()), (select chat.is_staff()) $$, 'roles may be asked');
reset role;

-- erasure: no account is held back by its chats
update public.support_agents set status = 'available' where user_id = pg_temp.person('albert');
select pg_temp.act_as('conrad');
update public.chat_sessions set status = 'ended' where id = current_setting('test.waiting')::uuid;
select pg_temp.act_as('nobody');
select lives_ok($$ delete from auth.users where id = pg_temp.person('anna') $$, 'an agent''s account goes');
select is(agent_id, pg_temp.person('albert'), '... his chats go to another') from public.chat_sessions where id = current_setting('test.session')::uuid;
select lives_ok($$ delete from auth.users where id = pg_temp.person('carla') $$, 'a customer''s account goes');
select is(status::text, 'abandoned', '... and his chat ends') from public.chat_sessions where id = current_setting('test.session')::uuid;
delete from auth.users where id = pg_temp.person('albert');

select is(chat.reconcile(), 0::bigint, '... and nobody is left in line whose chat is over');

select * from finish();
rollback;
