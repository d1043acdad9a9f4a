-- What staff and time do to a session: taking, handing on, giving back, refusing, no answer, overflow.
begin;
\ir support/desk.psql
select plan(49);

create temporary table s (who text primary key, id uuid) on commit drop;
grant all on s to public;
create function pg_temp.session_of(name text) returns uuid language sql stable as $$ select id from s where who = name $$;
create function pg_temp.state(name text) returns text language sql stable security definer as $$
  select coalesce(p.name, c.status) from public.chat_sessions as c left join people as p on p.id = c.agent_id where c.id = pg_temp.session_of($1)
$$;
create function pg_temp.starts(name text) returns void language plpgsql as $$
declare
  session uuid;
begin
  perform pg_temp.act_as(name);
  session := (pg_temp.start_chat()).id;
  insert into s (who, id) values (name, session) on conflict on constraint s_pkey do update set id = excluded.id;
  perform pg_temp.settle();
  perform pg_temp.act_as('nobody');
end
$$;
create function pg_temp.last_event(name text) returns text language sql stable security definer as $$
  select concat_ws(' ', e.kind, e.actor, e.details ->> 'reason', e.details ->> 'comment')
  from chat.events as e where e.session_id = pg_temp.session_of($1) order by e.id desc limit 1
$$;
create function pg_temp.history(name text) returns text[] language sql stable security definer as $$
  select array_agg(e.kind order by e.id) from chat.events as e where e.session_id = pg_temp.session_of($1)
$$;
-- lets time pass for what an agent was given
create function pg_temp.minutes_pass(n integer) returns void language sql as $$
  update chat.assignments set assigned_at = assigned_at - make_interval(mins => n) where released_at is null;
  update chat.queue set queue_since = queue_since - make_interval(mins => n) where left_at is null;
$$;
create function pg_temp.in_step() returns boolean language sql stable as $$
  select not exists (
    select from chat.agents as a
    where a.load <> (select count(*) from chat.assignments as o where o.agent_id = a.user_id and o.released_at is null)
      or a.load <> (select count(*) from public.chat_sessions as c where c.agent_id = a.user_id and c.status = 'active')
  )
$$;

-- taking by hand
select pg_temp.starts('carla');
select pg_temp.act_as('anna');
select lives_ok($$ select public.chat_take(pg_temp.session_of('carla')) $$, 'an agent takes who waits');
select is(pg_temp.state('carla'), 'anna', '... and has him');
select is(pg_temp.last_event('carla'), 'assigned agent taken by hand', '... by hand, the history says');
select pg_temp.act_as('albert');
select throws_ok($$ select public.chat_take(pg_temp.session_of('carla')) $$, '42501', null, 'a colleague''s is not his to take');
select throws_ok($$ select public.chat_transfer(pg_temp.session_of('carla'), agent_id => auth.uid()) $$, '42501', null, '... nor to hand to himself');
select throws_ok($$ select public.chat_requeue(pg_temp.session_of('carla')) $$, '42501', null, '... nor to give back');
select pg_temp.act_as('carla');
select throws_ok($$ select public.chat_take(pg_temp.session_of('carla')) $$, '42501', null, 'a customer takes nothing');
select throws_ok($$ select public.chat_requeue(pg_temp.session_of('carla')) $$, '42501', null, '... gives nothing back');
select pg_temp.act_as('max of beta');
select throws_ok($$ select public.chat_take(pg_temp.session_of('carla')) $$, '42501', null, 'another tenant''s lead leads elsewhere');
select pg_temp.act_as('mary');
select lives_ok($$ select public.chat_take(pg_temp.session_of('carla')) $$, 'a lead takes over');
select is(pg_temp.state('carla'), 'mary', '... and has it');
select is(pg_temp.last_event('carla'), 'taken_over lead', '... as the history says');
select pg_temp.act_as('nobody');
select is(outcome, 'taken_over', '... and the leg') from chat.assignments where session_id = pg_temp.session_of('carla') and released_at is not null;
select ok(pg_temp.in_step(), 'loads are counts');

-- handing on
select pg_temp.act_as('mary');
select throws_ok($$ select public.chat_transfer(pg_temp.session_of('carla')) $$, '22023', null, 'a transfer names whereto');
select throws_ok($$ select public.chat_transfer(pg_temp.session_of('carla'), agent_id => pg_temp.person('conrad')) $$, '23514', null, '... an agent');
select lives_ok($$ select public.chat_transfer(pg_temp.session_of('carla'), agent_id => pg_temp.person('anna'), comment => 'knows shoes') $$, 'to a colleague');
select is(pg_temp.state('carla'), 'anna', '... who has it');
select is(pg_temp.last_event('carla'), 'transferred agent transferred knows shoes', '... with the reason given');
select pg_temp.act_as('nobody');
update chat.agents set capacity = 0 where user_id = pg_temp.person('albert');
select pg_temp.act_as('anna');
select throws_ok($$ select public.chat_transfer(pg_temp.session_of('carla'), agent_id => pg_temp.person('albert')) $$, '23514', null, 'to nobody without a seat');
select is(pg_temp.state('carla'), 'anna', '... it stays');
select pg_temp.act_as('nobody');
select ok(pg_temp.in_step(), '... and so do the loads');

-- to a queue, and what the portal sends
insert into public.chat_queues (id, name) values ('cccccccc-0000-4000-8000-000000000001', 'Returns'), ('cccccccc-0000-4000-8000-000000000002', 'Stand-in');
insert into public.chat_queue_members (queue_id, agent_id) values ('cccccccc-0000-4000-8000-000000000001', pg_temp.person('albert')), ('cccccccc-0000-4000-8000-000000000002', pg_temp.person('agnes of beta'));
select pg_temp.act_as('anna');
update public.chat_sessions set queue_id = 'cccccccc-0000-4000-8000-000000000001' where id = pg_temp.session_of('carla');
select pg_temp.settle();
select is(pg_temp.state('carla'), 'waiting', 'to a queue is into its line');
select pg_temp.act_as('nobody');
select is(queued_at, (select started_at from public.chat_sessions where id = pg_temp.session_of('carla')), '... with the time of its start')
from chat.queue where session_id = pg_temp.session_of('carla') and left_at is null;
select pg_temp.available('albert', 1);
select is(pg_temp.state('carla'), 'albert', '... and is served there');
select ok(pg_temp.in_step(), '... one seat each');

-- refusing
select pg_temp.act_as('albert');
select lives_ok($$ select public.chat_reject(pg_temp.session_of('carla'), 'lunch') $$, 'an agent refuses');
select pg_temp.act_as('nobody');
select is(pg_temp.state('carla'), 'waiting', '... nobody else serves this queue');
select is((select array_agg(kind || ' ' || coalesce(details ->> 'comment', '')) from (select * from chat.events where session_id = pg_temp.session_of('carla') order by id desc limit 2) as e),
  '{"queued ","requeued lunch"}', '... the history says why');
select is(chat.assign_next(), null, '... and never the same again');
update public.support_agents set status = 'away' where user_id = pg_temp.person('albert');
update public.support_agents set status = 'available' where user_id = pg_temp.person('albert');
select is(pg_temp.state('carla'), 'waiting', '... however often he comes back');
select pg_temp.act_as('albert');
select lives_ok($$ select public.chat_take(pg_temp.session_of('carla')) $$, '... unless he takes it himself');
select pg_temp.say(pg_temp.session_of('carla'), 'hello', 'agent');
select throws_ok($$ select public.chat_reject(pg_temp.session_of('carla')) $$, '23514', null, 'who has answered does not refuse');
select lives_ok($$ select public.chat_requeue(pg_temp.session_of('carla')) $$, '... he gives back');
select pg_temp.act_as('nobody');
select is(pg_temp.state('carla'), 'waiting', '... to the line');

-- no answer
select pg_temp.available('anna', 2);
select pg_temp.starts('conrad');
select is(pg_temp.state('conrad'), 'anna', 'given to an agent');
select is(chat.requeue_unanswered(), null, 'who has some minutes');
select pg_temp.minutes_pass(4);
insert into public.chat_typing_indicators (session_id, user_id) values (pg_temp.session_of('conrad'), pg_temp.person('anna'));
select is(chat.requeue_unanswered(), null, '... and more while he types');
update public.chat_typing_indicators set is_typing = false where true;
update public.chat_queue_members set agent_id = pg_temp.person('agnes of beta') where queue_id = 'cccccccc-0000-4000-8000-000000000001';
select is(chat.requeue_unanswered(), pg_temp.session_of('conrad'), 'who says nothing loses it');
select is(pg_temp.state('conrad'), 'albert', '... to the next one, at once');
select is(pg_temp.history('conrad'), '{assigned,requeued,assigned}', '... as the history says');
select pg_temp.act_as('albert');
select pg_temp.say(pg_temp.session_of('conrad'), 'hello', 'agent');
select pg_temp.act_as('nobody');
update chat.assignments set assigned_at = assigned_at - interval '1 second' where true;
select pg_temp.minutes_pass(4);
select is(chat.requeue_unanswered(), null, 'who answered keeps it');
select is((select count(*) from chat.agents where user_id = pg_temp.person('anna') and load = 0), 1::bigint, 'the seat is free');

-- overflow
update public.chat_queues set overflow_queue_id = 'cccccccc-0000-4000-8000-000000000002', overflow_after = '9 minutes' where name = 'Returns';
update public.chat_queues set overflow_queue_id = 'cccccccc-0000-4000-8000-000000000001', overflow_after = '0' where name = 'Stand-in';
select is(chat.overflow_next(), null, 'who waits has patience');
select pg_temp.minutes_pass(6);
select is(chat.overflow_next(), pg_temp.session_of('carla'), 'who waits too long goes to the queue that stands in');
select is(pg_temp.last_event('carla'), 'overflowed system overflowed', '... as the history says');
select pg_temp.minutes_pass(6);
select is(chat.overflow_next(), null, 'nobody is sent to and fro');
delete from public.chat_queue_members where queue_id = 'cccccccc-0000-4000-8000-000000000002';
select is(chat.assign_next(), pg_temp.session_of('carla'), '... and is served there');
select ok(pg_temp.in_step(), 'loads are counts to the end');

select * from finish();
rollback;
