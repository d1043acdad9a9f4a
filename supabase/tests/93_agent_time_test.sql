-- What is written down about agents, the desk as it is now, and what the worker counts.
begin;
\ir support/desk.psql
select plan(25);

delete from chat.agent_states;
delete from chat.touched;
update chat.rolled set agents_until = chat.quarter(clock_timestamp()), assignments = 0;
update chat.assignment_latencies set assignments = 0, seconds = 0;

create function pg_temp.states(who text) returns table (available boolean, capacity integer, over boolean)
language sql
as $$ select available, capacity, until is not null from chat.agent_states where agent_id = pg_temp.person(who) order by id $$;

-- states
update chat.agents set available = true, capacity = 3 where user_id = pg_temp.person('anna');
select results_eq($$ select * from pg_temp.states('anna') $$, $$ values (true, 3, false) $$, 'who says something about himself has a state');
update chat.agents set available = true, capacity = 3, load = 0 where user_id = pg_temp.person('anna');
select is(count(*), 1::bigint, '... the same again is no new one') from pg_temp.states('anna');
update chat.agents set capacity = 2 where user_id = pg_temp.person('anna');
update chat.agents set available = false where user_id = pg_temp.person('anna');
select results_eq($$ select * from pg_temp.states('anna') $$,
  $$ values (true, 3, true), (true, 2, true), (false, 2, false) $$, 'states follow one another');
select is_empty($$ select from chat.agent_states a join chat.agent_states b on b.agent_id = a.agent_id and b.id > a.id
  where a.until > b.since $$, '... and do not overlap');
update chat.agents set capacity = 1 where user_id = pg_temp.person('agnes of beta');
select is(tenant_id, 'bbbbbbbb-0000-4000-8000-000000000000'::uuid, 'a state knows the agent''s tenant')
from chat.agent_states where agent_id = pg_temp.person('agnes of beta');
delete from chat.agents where user_id = pg_temp.person('agnes of beta');
select results_eq($$ select * from pg_temp.states('agnes of beta') $$, $$ values (false, 1, true) $$, 'who is gone has no state any more, but a history');
insert into chat.agents (user_id) values (pg_temp.person('agnes of beta'));
select is(count(*), 2::bigint, 'who comes has one') from pg_temp.states('agnes of beta');
delete from public.support_agents where user_id = pg_temp.person('agnes of beta');

-- the desk
update chat.agents set available = true where user_id = pg_temp.person('anna');
select pg_temp.available('anna', 1);
select pg_temp.act_as('carla');
select pg_temp.start_chat();
select pg_temp.settle();
select pg_temp.act_as('conrad');
select pg_temp.start_chat();
select pg_temp.settle();
select pg_temp.act_as('nobody');
update chat.queue set entered_at = clock_timestamp() - interval '90 seconds' where left_at is null;
create temporary table live on commit drop as
select * from chat.live_state() where queue_name = 'Default' and tenant_id is null;
select is(waiting, 1::bigint, 'live: waiting') from live;
select cmp_ok(longest_wait_seconds, '>=', 90::double precision, 'live: longest wait') from live;
select is(active, 1::bigint, 'live: active') from live;
select is(array[agents_available, seats_total, seats_free], '{1,1,0}', 'live: agents and seats') from live;
select is(offered_today, 2::bigint, 'live: offered today') from live;
select is(abandoned_today, 0::bigint, 'live: abandoned today') from live;
select is(service_level_15m, null, 'live: no service level of nothing answered') from live;

insert into public.chat_queue_members (queue_id, agent_id)
values ('00000000-0000-4000-8000-000000000137', pg_temp.person('albert'));
select is(seats_total, 0::bigint, 'live: only members'' seats count') from chat.live_state() where queue_name = 'Default' and tenant_id is null;

select pg_temp.act_as('anna');
select is(sum(waiting)::integer, 1, 'staff see the desk') from public.chat_live();
select pg_temp.act_as('max of beta');
select is(coalesce(sum(waiting), 0)::integer, 0, '... of their tenant') from public.chat_live();
select pg_temp.act_as('carla');
select throws_ok($$ select * from public.chat_live() $$, '42501', null, 'a customer does not');
select pg_temp.act_as('nobody');

-- counters
update chat.assignments set latency = interval '3 ms' where released_at is null;
-- a leg that went over to another session leaves a copy, which is no assignment
insert into chat.assignments (session_id, agent_id, released_at, outcome)
select session_id, agent_id, clock_timestamp(), 'superseded' from chat.assignments where released_at is null;
select isnt(chat.roll_up_touched(), 0::bigint, 'the worker counts');
select is(assignments, 1::bigint, 'assignments') from chat.rolled;
select results_eq($$ select le, assignments, seconds from chat.assignment_latencies where assignments > 0 $$,
  $$ values (0.005::double precision, 1::bigint, 0.003::double precision) $$, '... each in the bucket of its latency');
select is(chat.roll_up_touched(), 0::bigint, '... once');
delete from public.chat_sessions where customer_id = pg_temp.person('carla');
select chat.roll_up_touched();
select cmp_ok(assignments, '>=', 1::bigint, '... and for good') from chat.rolled;
select is(chat.gauges() ->> 'assignments', assignments::text, 'a scrape tells them') from chat.rolled;
select is(sum(offered), 2::numeric, 'totals keep what was deleted') from chat.session_totals where quarter > now() - interval '1 hour';

select * from finish();
rollback;
