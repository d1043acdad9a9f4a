-- Who has read what: marks, counters, and who may.
begin;
\ir support/desk.psql
select plan(46);
create temporary table s (name text primary key, id uuid) on commit drop;
grant all on s to public;
create function pg_temp.session() returns uuid language sql stable as $$ select id from s where name = 'carla' $$;
-- the counters, and whether they are the counts
create function pg_temp.unread() returns text
language plpgsql security definer
as $$
declare
  kept text;
  counted text;
begin
  select string_agg(format('%s/%s', c.unread_by_agent, c.unread_by_customer), ' ' order by c.started_at) into kept
  from public.chat_sessions as c;
  select string_agg(format('%s/%s', t.by_agent, t.by_customer), ' ' order by t.started_at) into counted
  from (
    select
      c.started_at,
      count(*) filter (where m.sender_type = 'customer' and m.is_read is not true) as by_agent,
      count(*) filter (where m.sender_type = 'agent' and m.is_read is not true) as by_customer
    from public.chat_sessions as c
    left join public.chat_messages as m on m.session_id = c.id
    group by c.id
  ) as t;
  return case when kept = counted then kept else format('%s, in truth %s', kept, counted) end;
end
$$;

select pg_temp.available('anna');
select pg_temp.act_as('carla');
insert into s select 'carla', id from pg_temp.start_chat();
select is(pg_temp.unread(), '0/0', 'nothing is unread at first');
select pg_temp.say(pg_temp.session(), 'one');
select pg_temp.say(pg_temp.session(), 'two');
select is(pg_temp.unread(), '2/0', 'the customer''s words are unread by the agent');

-- a mark
select is(public.mark_read(pg_temp.session()), 0, 'one''s own words are not one''s own to read');
select is(pg_temp.unread(), '2/0', '... and stay unread');
select pg_temp.act_as('mary');
select is(public.mark_read(pg_temp.session()), 0, 'a lead who looks on reads for nobody');
select is(pg_temp.unread(), '2/0', '... and changes nothing');
select pg_temp.act_as('anna');
select is(public.mark_read(pg_temp.session(), m.id), 1, 'up to a message, and with it')
from public.chat_messages as m where m.message = 'one';
select is(pg_temp.unread(), '1/0', '... not further');
select is(is_read, false, '... not what came after') from public.chat_messages where message = 'two';
select ok(is_read and read_at > created_at, '... at the server''s time') from public.chat_messages where message = 'one';
create temporary table marked on commit drop as select ctid as place from public.chat_messages where message = 'one';
select is(public.mark_read(session_id => pg_temp.session()), 1, 'without a message, all there are');
select is(pg_temp.unread(), '0/0', '... nothing is left');
select is(public.mark_read(pg_temp.session()), 0, '... the second time nothing');
select is(m.ctid, marked.place, 'what was read is not written again')
from public.chat_messages as m, marked where m.message = 'one';
select throws_ok(
  format('select public.mark_read(%L, %L)', pg_temp.session(), pg_temp.session()), '22023', null,
  'a message of another session is no place to read to');

-- strangers
select set_config('test.session', pg_temp.session()::text, true);
select pg_temp.act_as('conrad');
select throws_ok($$ select public.mark_read(current_setting('test.session')::uuid) $$, '42501',
  'session ' || current_setting('test.session') || ' is not yours to read', 'a stranger reads nothing');
select throws_ok($$ select public.mark_read('00000000-0000-4000-8000-000000000000') $$, '42501', null, '... nor learns what there is');
select pg_temp.act_as('albert');
select throws_ok($$ select public.mark_read(current_setting('test.session')::uuid) $$, '42501', null, 'a colleague neither');
select pg_temp.act_as('max of beta');
select throws_ok($$ select public.mark_read(current_setting('test.session')::uuid) $$, '42501', null, 'nor another tenant''s lead');
select pg_temp.act_as('anon');
select throws_ok($$ select public.mark_read(current_setting('test.session')::uuid) $$, '42501', null, 'nor who is nobody');
select pg_temp.act_as('service_role');
select throws_ok($$ select public.mark_read(current_setting('test.session')::uuid) $$, '42501', null, 'the service is no reader');

-- writing is reading
select pg_temp.act_as('carla');
select pg_temp.say(pg_temp.session(), 'three');
select pg_temp.act_as('anna');
select pg_temp.say(pg_temp.session(), 'answer', 'agent');
select is(pg_temp.unread(), '0/1', 'who answers has read what came before, and is unread himself');
select is(q.read_at, a.created_at, '... since he answered')
from public.chat_messages as q, public.chat_messages as a where q.message = 'three' and a.message = 'answer';
select pg_temp.say(pg_temp.session(), 'second answer', 'agent');
select is(pg_temp.unread(), '0/2', 'one''s own words stay unread');
select pg_temp.act_as('nobody');
select chat.tell_customer(pg_temp.session(), 'notice');
select is(pg_temp.unread(), '0/2', 'notices do not count');
select pg_temp.act_as('carla');
select is(public.mark_read(pg_temp.session()), 2, 'the customer reads the agent''s words');
select is(count(*) filter (where is_read), 0::bigint, '... not the system''s') from public.chat_messages where sender_type = 'system';
select pg_temp.act_as('anna');
select pg_temp.say(pg_temp.session(), 'third answer', 'agent');
select pg_temp.act_as('carla');
select pg_temp.say(pg_temp.session(), 'four');
select is(pg_temp.unread(), '1/0', 'a customer who writes has read as well');

-- the column itself, as before
select pg_temp.act_as('anna');
update public.chat_messages set is_read = true where session_id = pg_temp.session() and is_read = false;
select is(pg_temp.unread(), '0/0', 'marking by the column counts too');
with again as (
  update public.chat_messages set is_read = true where session_id = pg_temp.session() returning 1
)
select is((select count(*) from again), 0::bigint, 'a mark that changes nothing writes nothing');

-- who serves the database
select pg_temp.act_as('service_role');
insert into public.chat_messages (session_id, sender_id, sender_type, message, is_read)
values (pg_temp.session(), pg_temp.person('carla'), 'customer', 'read on paper', true);
select is(pg_temp.unread(), '0/0', 'words brought in as read are read');
insert into public.chat_messages (session_id, sender_id, sender_type, message, is_read, created_at)
values
  (pg_temp.session(), pg_temp.person('carla'), 'customer', 'old question', false, '2001-01-01 10:00'),
  (pg_temp.session(), pg_temp.person('anna'), 'agent', 'old answer', null, '2001-01-01 10:01');
select is(pg_temp.unread(), '1/1', 'history brought in is what it says');
update public.chat_messages set is_read = true where message like 'old %';
select is(pg_temp.unread(), '0/0', 'the service marks by the column');
select isnt(read_at, null, '... at a time') from public.chat_messages where message = 'old question';
update public.chat_messages set is_read = false where message = 'old question';
select is(pg_temp.unread(), '1/0', '... and takes it back');
update public.chat_messages set sender_type = 'system' where message = 'old question';
select is(pg_temp.unread(), '0/0', 'a message that becomes another''s counts there');
insert into public.chat_messages (session_id, sender_id, sender_type, message)
values (pg_temp.session(), pg_temp.person('carla'), 'customer', 'to go'), (pg_temp.session(), pg_temp.person('carla'), 'customer', 'to stay');
delete from public.chat_messages where message = 'to go' or message = 'old answer';
select is(pg_temp.unread(), '1/0', 'what is deleted is not unread');

-- carried along
select pg_temp.act_as('carla');
insert into s select 'again', id from pg_temp.start_chat();
select is(pg_temp.unread(), '0/0 1/0', 'what follows the customer to his next session is unread there');
select pg_temp.act_as('nobody');
select is(chat.measure_sessions(array(select id from s)), 0::bigint, '... and measured there');

-- the agent's first sign
update chat.assignments set accepted_at = null, first_response_at = null where released_at is null;
create function pg_temp.signs() returns text
language sql security definer
as $$
  select concat_ws(' ', case when accepted_at is not null then 'accepted' end, case when first_response_at is not null then 'answered' end)
  from chat.assignments where released_at is null
$$;
select pg_temp.act_as('carla');
select public.mark_read((select id from s where name = 'again'));
insert into public.chat_typing_indicators (session_id, user_id, is_typing)
select id, auth.uid(), true from s where name = 'again';
select is(pg_temp.signs(), '', 'the customer gives no sign for the agent');
select pg_temp.act_as('anna');
insert into public.chat_typing_indicators (session_id, user_id, is_typing)
select id, auth.uid(), true from s where name = 'again';
select is(pg_temp.signs(), 'accepted', 'who types has opened the chat');
select pg_temp.act_as('nobody');
update chat.assignments set accepted_at = null where released_at is null;
select pg_temp.act_as('anna');
select public.mark_read((select id from s where name = 'again'));
select is(pg_temp.signs(), 'accepted', '... as who marks it read');
select pg_temp.act_as('nobody');
create temporary table first_sign on commit drop as select accepted_at from chat.assignments where released_at is null;
select pg_temp.act_as('anna');
select public.mark_read((select id from s where name = 'again'));
select pg_temp.say((select id from s where name = 'again'), 'hello', 'agent');
select is(pg_temp.signs(), 'accepted answered', '... and answers by writing');
select pg_temp.act_as('nobody');
select is(a.accepted_at, f.accepted_at, 'the first sign stays the first') from chat.assignments a, first_sign f where a.released_at is null;
create temporary table first_answer on commit drop as select first_response_at from chat.assignments where released_at is null;
grant select on first_answer to public;
select pg_temp.act_as('anna');
select pg_temp.say((select id from s where name = 'again'), 'still there?', 'agent');
select pg_temp.act_as('nobody');
select is(a.first_response_at, f.first_response_at, '... and so does the first answer') from chat.assignments a, first_answer f where a.released_at is null;
update chat.assignments set accepted_at = null where released_at is null;
select pg_temp.act_as('carla');
select pg_temp.say((select id from s where name = 'again'), 'yes');
select pg_temp.act_as('anna');
update public.chat_messages set is_read = true where is_read = false;
select is(pg_temp.signs(), 'accepted answered', 'marking by the column is a sign, too');

select * from finish();
rollback;
