-- Business hours: when a queue is open, who says so, and what a customer is told who comes when it is not.
begin;
\ir support/desk.psql
select plan(58);
delete from public.chat_business_hours;
delete from public.chat_holidays;
create temporary table ears (user_id text, session_id uuid, since timestamptz) on commit drop;
create or replace function chat.listeners() returns table (user_id text, session_id uuid, since timestamptz)
language sql stable as $$ select * from ears $$;
update chat.watch set last_live_at = null;
update chat.settings set out_of_hours_notice = 'We are closed.';
insert into public.chat_queues (id, tenant_id, name, time_zone) values
  ('99999999-0000-4000-8000-000000000001', null, 'Berlin', 'Europe/Berlin'),
  ('99999999-0000-4000-8000-000000000002', 'bbbbbbbb-0000-4000-8000-000000000000', 'Of Beta', 'UTC');
\set berlin '\'99999999-0000-4000-8000-000000000001\''
create function pg_temp.is_open(instant timestamptz) returns boolean language sql
as $$ select chat.is_open_at('99999999-0000-4000-8000-000000000001', instant) $$;
create function pg_temp.hours(weekday integer, opens time, closes time) returns void language sql
as $$ insert into public.chat_business_hours values ('99999999-0000-4000-8000-000000000001', weekday, opens, closes) $$;

-- without hours
select ok(pg_temp.is_open('2026-03-10 03:00Z'), 'a queue without hours is open');
select ok(chat.is_open_at(null, now()), '... so is none');
select is((is_open, opens_at, closes_at, notice)::text, '(t,,,)', '... and stays so') from public.chat_queue_open(:berlin);

-- zones
select throws_ok($$ update public.chat_queues set time_zone = 'Mars/Base' where name = 'Berlin' $$, '23514', 'there is no time zone Mars/Base', 'a time zone is one that there is');
select throws_ok($$ update public.chat_queues set time_zone = '+01:00' where name = 'Berlin' $$, '23514', null, '... by name');
select throws_ok($$ insert into public.chat_queues (name, time_zone) values ('X', 'Mars/Base') $$, '23514', null, '... from the beginning');
select throws_ok($$ update public.chat_queues set out_of_hours_notice = ' ' where name = 'Berlin' $$, '23514', null, 'a notice says something');

-- a week: Monday to Friday with a break, Saturday night
select pg_temp.hours(day, '09:00', '12:00') from generate_series(1, 5) as day;
select pg_temp.hours(day, '13:00', '17:00') from generate_series(1, 5) as day;
select pg_temp.hours(6, '22:00', '06:00');
select ok(pg_temp.is_open('2026-03-10 08:00Z'), 'it opens');
select ok(not pg_temp.is_open('2026-03-10 07:59:59Z'), '... not before');
select ok(pg_temp.is_open('2026-03-10 10:59:59Z'), '... until it closes');
select ok(not pg_temp.is_open('2026-03-10 11:00Z'), '... for a break');
select ok(pg_temp.is_open('2026-03-10 12:00Z'), '... and opens again');
select ok(not pg_temp.is_open('2026-03-15 10:00Z'), 'on a Sunday it is closed');
select ok(pg_temp.is_open('2026-03-14 21:00Z'), 'a night begins');
select ok(pg_temp.is_open('2026-03-15 04:59Z'), '... goes on past midnight');
select ok(not pg_temp.is_open('2026-03-15 05:00Z'), '... and ends');

-- summer and winter time
select ok(pg_temp.is_open('2026-03-30 07:00Z') and not pg_temp.is_open('2026-03-30 06:59Z'), 'in summer it opens an hour earlier by UTC');
select ok(pg_temp.is_open('2026-10-26 08:00Z') and not pg_temp.is_open('2026-10-26 07:59Z'), '... and in winter an hour later');
select is(upper(times) - lower(times), '7 hours', 'the night in which clocks go forward is shorter')
from chat.open_times(:berlin, '2026-03-28 22:00Z', '2026-03-28 22:00Z') as t, unnest(t) as times where times @> '2026-03-28 22:00Z'::timestamptz;
select is(upper(times) - lower(times), '9 hours', '... and longer when they go back')
from chat.open_times(:berlin, '2026-10-24 22:00Z', '2026-10-24 22:00Z') as t, unnest(t) as times where times @> '2026-10-24 22:00Z'::timestamptz;
update public.chat_business_hours set weekday = 7, opens = '02:30', closes = '03:00' where weekday = 6;
select lives_ok($$ select pg_temp.is_open('2026-03-29 01:15Z') $$, 'a time that spring leaves out hurts nobody');
select ok(not pg_temp.is_open('2026-03-29 01:15Z'), '... and is not open');
update public.chat_business_hours set weekday = 6, opens = '22:00', closes = '06:00' where weekday = 7;

-- holidays
insert into public.chat_holidays (queue_id, day, name) values (:berlin, '2026-04-06', 'Easter Monday');
insert into public.chat_holidays (queue_id, day, name, opens, closes) values (:berlin, '2026-12-24', 'Christmas Eve', '09:00', '10:00');
insert into public.chat_holidays (queue_id, day, name) values (:berlin, '2026-04-12', 'Sunday after');
select ok(not pg_temp.is_open('2026-04-06 10:00Z'), 'a holiday is closed');
select ok(pg_temp.is_open('2026-04-07 08:00Z'), '... the day after is not');
select ok(pg_temp.is_open('2026-12-24 08:30Z') and not pg_temp.is_open('2026-12-24 09:30Z'), 'a short day has its own hours');
select ok(pg_temp.is_open('2026-04-11 23:00Z'), 'the evening before runs into a holiday');
select throws_ok($$ insert into public.chat_holidays (queue_id, day, name, opens) values ('99999999-0000-4000-8000-000000000001', '2026-12-25', 'X', '09:00') $$, '23514', null, 'who opens closes');

-- midnight
select pg_temp.hours(2, '18:00', '24:00');
select pg_temp.hours(3, '00:00', '01:00');
select is(upper(times), '2026-03-11 00:00Z', 'spans that touch are one') from chat.open_times(:berlin, '2026-03-10 20:00Z', '2026-03-12 00:00Z') as t, unnest(t) as times where times @> '2026-03-10 20:00Z'::timestamptz;
select throws_ok($$ select pg_temp.hours(8, '09:00', '10:00') $$, '23514', null, 'there are seven days');
select throws_ok($$ select pg_temp.hours(1, '09:30', '09:30') $$, '23514', null, 'a span is not empty');
select throws_ok($$ select pg_temp.hours(1, '24:00', '01:00') $$, '23514', null, '... and begins on its day');
select throws_ok($$ select pg_temp.hours(1, '09:00', '10:00') $$, '23505', null, 'a span is said once');

-- what a page asks, on a clock of its own: open since an hour, for another; then closed, until tomorrow
delete from public.chat_business_hours;
delete from public.chat_holidays;
update public.chat_queues set time_zone = 'UTC' where id = :berlin;
create function pg_temp.open_around(since interval, until interval) returns void language sql
as $$
  delete from public.chat_business_hours;
  insert into public.chat_business_hours
  select '99999999-0000-4000-8000-000000000001', extract(isodow from (now() + since) at time zone 'UTC'),
    ((now() + since) at time zone 'UTC')::time, ((now() + until) at time zone 'UTC')::time
$$;
select pg_temp.open_around('-1 hour', '1 hour');
select pg_temp.act_as('anon');
select is((is_open, opens_at, closes_at, notice), (true, null::timestamptz, now() + interval '1 hour', null::text), 'anybody may ask whether it is open, and until when')
from public.chat_queue_open(:berlin);
select throws_ok($$ select from public.chat_business_hours $$, '42501', null, '... and nothing more');
select pg_temp.act_as('nobody');
select pg_temp.open_around('1 hour', '2 hours');
select pg_temp.act_as('anon');
select is((is_open, opens_at, closes_at, notice), (false, now() + interval '1 hour', null::timestamptz, 'We are closed.'::text), 'whether it is closed, until when, and what is said')
from public.chat_queue_open(:berlin);
select is(is_open, null, 'of no queue there is nothing to say') from public.chat_queue_open(gen_random_uuid());
select is(is_open, true, 'without an id it is the default queue') from public.chat_queue_open();
select pg_temp.act_as('nobody');
update public.chat_queues set out_of_hours_notice = 'Back soon' where id = :berlin;
select is(notice, 'Back soon', 'a queue has its own notice') from public.chat_queue_open(:berlin);
insert into public.chat_holidays (queue_id, day, name) select :berlin, ((now() + interval '1 hour') at time zone 'UTC')::date, 'Today';
select is(opens_at, now() + interval '7 days 1 hour', 'a holiday is passed over') from public.chat_queue_open(:berlin);
delete from public.chat_holidays;

-- who starts when it is closed
select pg_temp.available('anna', 1);
select pg_temp.act_as('carla');
insert into public.chat_sessions (customer_id, customer_name, customer_email, status, queue_id)
values (pg_temp.person('carla'), 'x', 'x', 'waiting', :berlin);
select pg_temp.settle();
select is(agent_id, pg_temp.person('anna'), 'is served by who is there') from public.chat_sessions where customer_id = pg_temp.person('carla');
select pg_temp.act_as('nobody');
create function pg_temp.told() returns bigint language sql as $$ select count(*) from public.chat_messages where message = 'Back soon' $$;
create function pg_temp.ago(age interval) returns void language plpgsql as $$
begin
  set local session_replication_role = replica;
  update public.chat_sessions set started_at = clock_timestamp() - age where customer_id = pg_temp.person('carla');
  set local session_replication_role = origin;
end
$$;
select is(chat.tell_out_of_hours(), 0::bigint, 'is not told before his channel is open');
select pg_temp.ago('4 seconds');
update chat.watch set last_live_at = now();
select is(chat.tell_out_of_hours(), 0::bigint, '... nor then, where it can be seen that it is not');
insert into ears select pg_temp.person('carla')::text, id, clock_timestamp() - interval '1 second' from public.chat_sessions where customer_id = pg_temp.person('carla');
select is(chat.tell_out_of_hours(), 1::bigint, '... but is as soon as it is');
delete from chat.events where kind = 'out_of_hours';
delete from public.chat_messages where message = 'Back soon';
delete from ears;
update chat.watch set last_live_at = null;
select is(chat.tell_out_of_hours(), 1::bigint, '... where it cannot, some seconds later');
select is(chat.tell_out_of_hours(), 0::bigint, '... once');
select is(pg_temp.told(), 1::bigint, '... by a message');
select is(queue_id, :berlin, 'it is noted') from chat.events where kind = 'out_of_hours';
delete from chat.events where kind = 'out_of_hours';
update chat.watch set last_live_at = now();
select pg_temp.ago('61 seconds');
select is(chat.tell_out_of_hours(), 1::bigint, 'who never subscribes is told after a minute');
delete from chat.events where kind = 'out_of_hours';
select pg_temp.ago('11 minutes');
select is(chat.tell_out_of_hours(), 0::bigint, 'long after his start nobody is told');
select pg_temp.ago('61 seconds');
update public.chat_sessions set status = 'ended' where customer_id = pg_temp.person('carla');
select is((chat.tell_out_of_hours(), pg_temp.told()), (1::bigint, 2::bigint), 'who is gone is noted and told nothing');
delete from chat.events where kind = 'out_of_hours';
select pg_temp.open_around('-1 hour', '1 hour');
select is(chat.tell_out_of_hours(), 0::bigint, 'who starts in time is told nothing');

-- who sets hours
select pg_temp.act_as('max of beta');
insert into public.chat_business_hours values ('99999999-0000-4000-8000-000000000002', 1, '09:00', '17:00');
insert into public.chat_holidays (queue_id, day, name) values ('99999999-0000-4000-8000-000000000002', '2026-12-25', 'Christmas');
update public.chat_queues set time_zone = 'Asia/Tokyo', out_of_hours_notice = 'Later' where name = 'Of Beta';
select is(time_zone, 'Asia/Tokyo', 'a lead sets his queue''s hours') from public.chat_queues where name = 'Of Beta';
select throws_ok($$ select pg_temp.hours(1, '01:00', '02:00') $$, '42501', null, '... and not those of all tenants');
select pg_temp.act_as('anna');
select is((select count(*) from public.chat_business_hours), 2::bigint, 'agents see hours');
select throws_ok($$ select pg_temp.hours(1, '01:00', '02:00') $$, '42501', null, '... and set none');
select pg_temp.act_as('carla');
select is_empty('select from public.chat_business_hours union all select from public.chat_holidays', 'customers do not look at them');

-- places
select pg_temp.act_as('nobody');
select pg_temp.open_around('1 hour', '2 hours');
update public.support_agents set status = 'offline';
select pg_temp.act_as('celia');
insert into public.chat_sessions (customer_id, customer_name, customer_email, status, queue_id)
values (pg_temp.person('celia'), 'x', 'x', 'waiting', :berlin);
select pg_temp.settle();
select pg_temp.act_as('nobody');
delete from ears;
update chat.watch set last_live_at = null;
update chat.queue set entered_at = entered_at - interval '4 seconds';
select is(chat.tell_places(), 0::bigint, 'nobody is told his place while it is closed');
select pg_temp.open_around('-1 hour', '1 hour');
select is(chat.tell_places(), 1::bigint, '... but is once it opens');

select * from finish();
rollback;
