-- Erasure, holds, files to be removed, retention.
begin;
\ir support/desk.psql
select plan(61);

update chat.settings
set retain_messages_for = null, retain_sessions_for = null, retain_events_for = null, erase_with_account = true;
delete from chat.file_removals;
delete from chat.erasures;
delete from chat.due_erasures;

create temporary table s (name text primary key, id uuid) on commit drop;
grant all on s to public;
create function pg_temp.session(who text) returns public.chat_sessions
language sql stable security definer
as $$ select c from public.chat_sessions as c where c.id = (select s.id from pg_temp.s where s.name = who) $$;

-- what a session in which everything was said leaves, by what could name its customer
create function pg_temp.traces(who text) returns setof text
language sql stable security definer
as $$
  select t.row
  from (
    select to_jsonb(c)::text as row from public.chat_sessions as c where c.id = (pg_temp.session(who)).id
    union all
    select to_jsonb(m)::text from public.chat_messages as m where m.session_id = (pg_temp.session(who)).id
    union all
    select to_jsonb(i)::text from public.chat_typing_indicators as i where i.session_id = (pg_temp.session(who)).id
    union all
    select to_jsonb(q)::text from chat.queue as q where q.session_id = (pg_temp.session(who)).id
    union all
    select to_jsonb(e)::text from chat.events as e where e.session_id = (pg_temp.session(who)).id
    union all
    select to_jsonb(h)::text from chat.handovers as h where h.session_id = (pg_temp.session(who)).id
  ) as t
  where t.row ~* ('secret|carla|' || pg_temp.person('carla'))
$$;

create function pg_temp.fill(who text) returns void
language plpgsql
as $$
begin
  perform pg_temp.act_as('carla');
  insert into s select who, id from pg_temp.start_chat();
  perform pg_temp.say((select id from s where name = who), 'my secret');
  insert into public.chat_typing_indicators (session_id, user_id) values ((select id from s where name = who), auth.uid());
  perform pg_temp.act_as('anna');
  perform pg_temp.say((select id from s where name = who), 'secret answer', 'agent');
  update public.chat_sessions set tags = '{secret}', metadata = '{"secret": 1}' where id = (select id from s where name = who);
  perform pg_temp.act_as('nobody');
  insert into storage.objects (bucket_id, name) values ('chat-attachments', (select id from s where name = who) || '/1-secret.txt');
  update public.chat_sessions
  set user_agent = 'secret', ip_address = '10.0.0.0', page_url = 'https://secret'
  where id = (select id from s where name = who);
  insert into public.chat_messages (session_id, sender_type, message_type, message, file_url, file_name, metadata)
  values ((select id from s where name = who), 'system', 'system', 'secret notice', null, null, '{"secret": 1}');
end
$$;

-- who may
select pg_temp.available('anna', 9);
select pg_temp.fill('first');
select pg_temp.act_as('anna');
select public.chat_requeue((select id from s), 'secret comment');
select pg_temp.act_as('anna');
update public.chat_sessions set agent_id = auth.uid() where id = (select id from s);
select throws_ok($$ select public.chat_erase_session((select id from s)) $$, '42501', null, 'an agent does not erase');
select throws_ok($$ select public.chat_erase_customer(pg_temp.person('carla')) $$, '42501', null, '... nor a customer''s history');
select throws_ok($$ select public.chat_hold((select id from s), 'x') $$, '42501', null, '... nor holds');
select pg_temp.act_as('carla');
select throws_ok($$ select public.chat_erase_session((select id from s)) $$, '42501', null, 'a customer does not erase');
select throws_ok($$ select public.chat_erase_customer(auth.uid()) $$, '42501', null, '... not even himself');
select pg_temp.act_as('max of beta');
select throws_ok($$ select public.chat_erase_session((select id from s)) $$, '42501', null, 'nor a lead of another tenant');
select is(public.chat_erase_customer(pg_temp.person('carla')), '{"sessions": 0, "messages": 0, "files": 0}', '... who reaches his own sessions only');
select pg_temp.act_as('anon');
select throws_ok($$ select public.chat_erase_customer(pg_temp.person('carla')) $$, '42501', null, 'nor anybody who did not sign in');

-- an open chat
select pg_temp.act_as('nobody');
select isnt_empty($$ select * from pg_temp.traces('first') $$, 'there is something to erase');
create temporary table numbers on commit drop as
select id, session_number, started_at, agent_joined_at, wait_time_seconds, messages_count, agent_id, queue_id from public.chat_sessions;
grant select on numbers to public;
select pg_temp.act_as('service_role');
select throws_ok($$ select public.chat_erase_session(gen_random_uuid()) $$, '42501', null, 'what is not there is not erased');
select results_eq(
  $$ select (e ->> 'sessions')::int, (e ->> 'files')::int, (e ->> 'messages')::int - (select messages_count from numbers)
     from public.chat_erase_session((select id from s), 'asked for') as e $$,
  $$ values (1, 1, 1) $$, 'the service erases, and is told how much: the notice of the end too'
);
select pg_temp.act_as('nobody');
select is_empty($$ select * from pg_temp.traces('first') $$, 'nothing tells of the person any more');
select results_eq(
  $$ select id, session_number, started_at, agent_joined_at, wait_time_seconds, agent_id, queue_id from public.chat_sessions $$,
  $$ select id, session_number, started_at, agent_joined_at, wait_time_seconds, agent_id, queue_id from numbers $$, 'the numbers stay'
);
select is((pg_temp.session('first')).status::text, 'ended', 'an open chat is ended');
select is((pg_temp.session('first')).customer_name::text, 'Erased', 'the name says so');
select bag_eq($$ select distinct message from public.chat_messages $$, array['[erased]'], '... and every text');
select isnt_empty($$ select from public.chat_messages where sender_id = pg_temp.person('anna') $$, 'the agent stays known');
select is(load, 0, 'his seat is free') from chat.agents where user_id = pg_temp.person('anna');
select results_eq($$ select name from chat.file_removals $$, $$ select id || '/1-secret.txt' from s $$, 'the file is listed for removal');
select results_eq($$ select kind, sessions::int, files::int, reason, actor_id from chat.erasures $$,
  $$ values ('session', 1, 1, 'asked for', null::uuid) $$, 'the audit trail tells how much');
select results_eq($$ select actor, details ->> 'kind' from chat.events where kind = 'erased' and session_id = (select id from s) $$, $$ values ('system', 'session') $$, '... and the session''s own');

-- again, and against the erasure
select is(public.chat_erase_session((select id from s)), '{"sessions": 0, "messages": 0, "files": 0}', 'erased once is erased');
select is(count(*), 1::bigint, '... with one entry') from chat.erasures;
update public.chat_sessions set customer_name = 'Carla', status = 'active', tags = '{secret}', feedback_comment = 'secret', erased_at = null;
select is_empty($$ select * from pg_temp.traces('first') $$, 'nobody writes it back');
select is((pg_temp.session('first')).status::text, 'ended', '... or reopens it');
select throws_ok($$ insert into public.chat_messages (session_id, sender_id, sender_type, message)
  values ((select id from s), pg_temp.person('carla'), 'customer', 'secret') $$, '42501', null, 'no message comes after it');
insert into storage.objects (bucket_id, name) values ('chat-attachments', (select id from s) || '/2-late.txt');
select is(count(*), 2::bigint, 'a file that comes after it is listed too') from chat.file_removals;
select pg_temp.act_as('carla');
select is_empty('select from public.chat_sessions', 'the customer sees it no more');

-- a comment that is too old to be changed by others
select pg_temp.fill('rated');
select pg_temp.act_as('carla');
update public.chat_sessions set status = 'ended', rating = 4, feedback_comment = 'secret' where status = 'active';
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_sessions set ended_at = now() - interval '30 days' where rating = 4;
set local session_replication_role = origin;

-- a customer, by a lead; holds
select pg_temp.fill('held');
select pg_temp.act_as('mary');
select lives_ok($$ select public.chat_hold((select id from s where name = 'held'), 'a dispute') $$, 'a lead holds a session');
select lives_ok($$ select public.chat_hold((select id from s where name = 'held'), 'a dispute') $$, '... twice is once');
select throws_ok($$ select public.chat_hold((select id from s where name = 'first'), 'late') $$, '23514', null, 'what is erased is not held');
select throws_ok($$ select public.chat_erase_customer(pg_temp.person('carla')) $$, '23514', null, 'a held session stops the erasure');
select results_eq($$ select reason from public.chat_holds $$, array['a dispute'], 'leads see what is held');
select pg_temp.act_as('nobody');
select throws_ok($$ delete from public.chat_sessions where id = (select id from s where name = 'held') $$, '23503', null, '... and any deletion');
select isnt_empty($$ select * from pg_temp.traces('rated') $$, '... as a whole');
select pg_temp.act_as('mary');
select public.chat_release((select id from s where name = 'held'));
select results_eq(
  $$ select (public.chat_erase_customer(pg_temp.person('carla'), 'she asked') ->> 'sessions')::int $$,
  array[2], 'let go, the customer is erased, open chat and all'
);
select is_empty($$ select * from pg_temp.traces('rated') union all select * from pg_temp.traces('held') $$, 'nothing tells of her');
select is((pg_temp.session('rated')).rating, 4, 'her rating stays');
select results_eq($$ select actor_id, sessions::int from public.chat_erasures where kind = 'customer' $$,
  $$ select auth.uid(), 2 $$, 'the audit trail says who did it');
select is(public.chat_erase_customer(pg_temp.person('carla')) ->> 'sessions', '0', 'again there is nothing to do');
select pg_temp.act_as('anna');
select is_empty('select from public.chat_erasures', 'agents do not see the audit trail');

-- accounts
select pg_temp.fill('kept');
select pg_temp.act_as('nobody');
update chat.settings set erase_with_account = false;
update auth.users set deleted_at = now() where id = pg_temp.person('carla');
select is(chat.erase_due(), null, 'a desk may keep what deleted accounts said');
update auth.users set deleted_at = null where id = pg_temp.person('carla');
update chat.settings set erase_with_account = true;
delete from auth.users where id = pg_temp.person('carla');
select is((pg_temp.session('kept')).customer_id, null, 'an account is deleted');
select public.chat_hold((select id from s where name = 'kept'), 'a dispute');
select is(chat.erase_due(), null, 'a held session waits');
insert into public.chat_sessions (customer_name, customer_email, status) values ('Another', 'another@desk.test', 'ended');
insert into chat.due_erasures (session_id, due_since) select id, 'infinity' from public.chat_sessions where customer_name = 'Another';
select isnt(chat.erase_due(), null, '... and is in nobody''s way');
select public.chat_release((select id from s where name = 'kept'));
select is(chat.erase_due(), (select id from s where name = 'kept'), 'then it is erased');
select is_empty($$ select * from pg_temp.traces('kept') $$, '... entirely');
select is(chat.erase_due(), null, '... and done');
select results_eq($$ select count(*)::int from chat.erasures where kind = 'account' $$, array[2], '... with an entry for each');

-- retention
select pg_temp.act_as('conrad');
insert into s select 'old', id from pg_temp.start_chat();
select pg_temp.say((select id from s where name = 'old'), 'old words');
update public.chat_sessions set status = 'ended' where true;
insert into s select 'new', id from pg_temp.start_chat();
select pg_temp.act_as('nobody');
insert into storage.objects (bucket_id, name) values ('chat-attachments', (select id from s where name = 'old') || '/old.txt');
set local session_replication_role = replica;
update public.chat_sessions set ended_at = now() - interval '100 days', started_at = now() - interval '100 days'
where id = (select id from s where name = 'old');
update chat.events set happened_at = now() - interval '100 days' where session_id = (select id from s where name = 'old');
set local session_replication_role = origin;
insert into public.chat_sessions (customer_name, customer_email, status, ended_at, erased_at, page_url)
select 'Many', '', 'ended', now() - interval '200 days', case n % 2 when 0 then now() end, 'many'
from generate_series(1, 202) as n;
insert into chat.holds (session_id, reason) select id, 'many' from public.chat_sessions where page_url = 'many' and erased_at is null;
select is(chat.retain(), 0::bigint, 'by default everything is kept');
update chat.settings set retain_messages_for = '90 days';
select public.chat_hold((select id from s where name = 'old'), 'a dispute');
select is(chat.retain(), 0::bigint, 'what is held is kept');
select public.chat_release((select id from s where name = 'old'));
select is(chat.retain(), 1::bigint, 'what was kept long enough is erased, whatever was before or is held');
select results_eq($$ select message, erased_at is not null from public.chat_messages as m join public.chat_sessions as c on c.id = m.session_id
  where m.session_id = (select id from s where name = 'old') and sender_type = 'customer' $$, $$ values ('[erased]', true) $$, '... its texts first');
select is(chat.retain(), 0::bigint, '... once');
update chat.settings set retain_events_for = '90 days';
delete from chat.events where session_id = (select id from s where name = 'old') and kind = 'erased';
select cmp_ok(chat.retain(), '>', 0::bigint, 'old trails go');
select is_empty($$ select from chat.events where session_id = (select id from s where name = 'old') $$, '... entirely');
delete from public.chat_sessions where page_url = 'many' and erased_at is not null;
update chat.settings set retain_sessions_for = '91 days';
delete from chat.file_removals;
select is(chat.retain(), 1::bigint, 'then the session itself');
select results_eq(
  $$ select (select count(*)::int from public.chat_sessions where id in (select id from s where name in ('old', 'new'))), name
     from chat.file_removals $$,
  $$ select 1, id || '/old.txt' from s where name = 'old' $$, '... with its files, and no other'
);

-- a deletion by hand
insert into storage.objects (bucket_id, name) values ('chat-attachments', (select id from s where name = 'new') || '/new.txt');
insert into s select 'copy', id from s where name = 'new';
savepoint deletion;
delete from public.chat_sessions where id = (select id from s where name = 'copy');
select is(count(*), 1::bigint, 'whoever deletes a session, its files go') from chat.file_removals where name like '%/new.txt';
rollback to deletion;

-- what is only in the way
insert into public.chat_typing_indicators (session_id, user_id, is_typing)
values ((select id from s where name = 'kept'), pg_temp.person('anna'), false), ((select id from s where name = 'new'), pg_temp.person('anna'), false);
set local session_replication_role = replica;
update public.chat_sessions set ended_at = now() - interval '2 hours' where id = (select id from s where name = 'kept');
insert into chat.handovers (session_id, from_agent, to_agent, requested_at)
values ((select id from s where name = 'kept'), pg_temp.person('anna'), pg_temp.person('albert'), now() - interval '2 hours');
set local session_replication_role = origin;
select is(chat.prune(), 2::bigint, 'who once typed and what was handed over is cleared');
select is(count(*), 1::bigint, '... but not in open chats') from public.chat_typing_indicators;

select * from finish();
rollback;
