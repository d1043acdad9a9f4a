-- Reports: every figure against one computed by hand.
begin;
\ir support/desk.psql
\ir support/march.psql
select plan(84);

create function pg_temp.near(found double precision, wanted double precision, what text) returns text
language sql
as $$ select ok(found is not distinct from wanted or abs(found - wanted) < 1e-6, what || ': ' || coalesce(found::text, 'null')) $$;

-- the whole day
create temporary table day on commit drop as select * from pg_temp.march();
select is(count(*), 1::bigint, 'without groups there is one row') from day;
select is(offered, 9::bigint, 'offered: chats started') from day;
select is(ended, 8::bigint, 'ended') from day;
select is(answered, 5::bigint, 'answered: an agent wrote') from day;
select is(abandoned, 4::bigint, 'abandoned') from day;
select is(short_abandons, 1::bigint, 'short abandons') from day;
select pg_temp.near(abandon_rate, 3.0 / 8, 'abandon rate leaves short ones out') from day;
select is(abandon_rate_of, 8::bigint, '... and says of how many') from day;
select is(missed, 1::bigint, 'missed') from day;
select is(dropped, 1::bigint, 'dropped') from day;
select pg_temp.near(service_level, 2.0 / 7, 'service level: abandons before the limit are neutral') from day;
select is(service_level_of, 7::bigint, '... and says of how many') from day;
select pg_temp.near(service_level, 2.0 / 9, 'service level with all abandons') from pg_temp.march(count_all => true);
select pg_temp.near(service_level, 4.0 / 6, 'service level with another limit') from pg_temp.march(answer_within => '100 s');
select pg_temp.near(asa, 12, 'asa: time in line of those answered') from day;
select pg_temp.near(wait_mean, 68, 'wait, mean') from day;
select pg_temp.near(wait_p50, 30, 'wait, median') from day;
select pg_temp.near(wait_p90, 156, 'wait, p90') from day;
select pg_temp.near(first_response_mean, 65, 'first response, mean') from day;
select pg_temp.near(first_response_p50, 30, 'first response, median') from day;
select pg_temp.near(first_response_p90, 152, 'first response, p90') from day;
select pg_temp.near(reaction_mean, 20, 'reaction, mean') from day;
select pg_temp.near(reaction_p90, 30, 'reaction, p90') from day;
select is(responses, 3::bigint, 'responses') from day;
select pg_temp.near(response_mean, 20, 'response, mean') from day;
select pg_temp.near(response_p90, 28, 'response, p90') from day;
select pg_temp.near(duration_mean, 387.5, 'duration, mean of those ended') from day;
select pg_temp.near(duration_p50, 360, 'duration, median') from day;
select pg_temp.near(duration_p90, 830, 'duration, p90') from day;
select pg_temp.near(active_mean, 400, 'active time, mean') from day;
select is(handled, 5::bigint, 'handled: legs that were accepted and are over') from day;
select pg_temp.near(handle_mean, 509, 'handle time, mean') from day;
select pg_temp.near(handle_p50, 570, 'handle time, median') from day;
select pg_temp.near(handle_p90, 604, 'handle time, p90') from day;
select is(rated, 3::bigint, 'rated') from day;
select pg_temp.near(response_rate, 3.0 / 8, 'response rate') from day;
select pg_temp.near(csat, 2.0 / 3, 'csat: four and five') from day;
select pg_temp.near(rating_mean, 4, 'mean rating') from day;
select is(legs, 8::bigint, 'legs; a copy is none') from day;
select pg_temp.near(transfer_rate, 1.0 / 7, 'transfer rate, of legs that are over') from day;
select pg_temp.near(requeue_rate, 1.0 / 7, 'requeue rate') from day;
select pg_temp.near(non_response_rate, 1.0 / 7, 'non-response rate') from day;
select pg_temp.near(assign_latency_ms_p50, 8, 'assign latency, median') from day;
select pg_temp.near(assign_latency_ms_p99, 13.88, 'assign latency, p99') from day;

-- agents
create temporary table agents on commit drop as
select p.name, r.* from pg_temp.march(array['agent']) as r join people as p on p.id = r.agent_id;
select pg_temp.near(available_seconds, 7200, 'available time') from agents where name = 'anna';
select pg_temp.near(occupancy, 2120.0 / 7200, 'occupancy: a second with two chats is one') from agents where name = 'anna';
select pg_temp.near(utilisation, 2420.0 / 14400, 'utilisation: chats of seats') from agents where name = 'anna';
select pg_temp.near(concurrency_avg, 2420.0 / 2120, 'mean concurrency') from agents where name = 'anna';
select is(concurrency_max, 2::bigint, 'most at once') from agents where name = 'anna';
select pg_temp.near(handle_mean, 578.75, 'handle time of an agent') from agents where name = 'anna';
select pg_temp.near(handle_weighted_mean, 507.5, '... weighted: each second is shared') from agents where name = 'anna';
select pg_temp.near(occupancy, 0.15, 'occupancy of another') from agents where name = 'albert';
select is(concurrency_max, 1::bigint, 'one after the other is one at once') from agents where name = 'albert';
select pg_temp.near(occupancy, 2.0 / 3, 'a chat still open counts while he is available') from agents where name = 'agnes of beta';
select pg_temp.near(transfer_rate, 1.0 / 3, 'legs are their own agent''s') from agents where name = 'albert';
select is(offered, 4::bigint, 'chats are their last agent''s') from agents where name = 'anna';

-- groups
select results_eq(
  $$ select hour, offered from pg_temp.march(array['hour'], zone => 'Asia/Kolkata') where offered > 0 $$,
  $$ values (pg_temp.at('09:30'), 4::bigint), (pg_temp.at('10:30'), 5) $$,
  'hours begin where the time zone''s do');
select results_eq(
  $$ select day, week, month, offered from pg_temp.march(array['day', 'week', 'month'], zone => 'Pacific/Kiritimati')
     where offered > 0 $$,
  $$ values ('2026-03-03'::date, '2026-03-02'::date, '2026-03-01'::date, 9::bigint) $$,
  'days, weeks and months are the time zone''s');
select results_eq(
  $$ select queue_id, offered, legs from pg_temp.march(array['queue']) order by offered $$,
  $$ values ('60000000-0000-4000-8000-000000000001'::uuid, 1::bigint, 2::bigint),
     ('00000000-0000-4000-8000-000000000137', 8, 6) $$,
  'by queue; a leg without one has its session''s');
select is(sum(available_seconds), null, '... where agents'' time is nobody''s') from pg_temp.march(array['queue']);
select results_eq(
  $$ select tenant_id, offered, available_seconds from pg_temp.march(array['tenant']) order by offered $$,
  $$ values ('bbbbbbbb-0000-4000-8000-000000000000'::uuid, 1::bigint, 1800::double precision), (null, 8, 10800) $$,
  'by tenant');
select is(offered, 0::bigint, 'nothing is nothing') from public.chat_report('2025-01-01', '2025-01-02');
select is(coalesce(abandon_rate, service_level, csat, response_rate, transfer_rate, occupancy, utilisation, wait_mean),
  null, '... and a share of it is none') from public.chat_report('2025-01-01', '2025-01-02');

-- totals
select chat.roll_up('2026-03-02', '2026-03-03');
update chat.rolled set agents_until = '2026-03-04 00:00+00';
select chat.roll_up('2026-03-02', '2026-03-03');
select chat.roll_up('2026-03-02', '2026-03-03');
create function pg_temp.figures(exact boolean) returns jsonb
language sql
as $$
  select jsonb_object_agg(key, round(value::numeric, 6)) from pg_temp.march(exact => exact) as r, jsonb_each_text(to_jsonb(r))
  where key !~ '_p[0-9]+$' and key not in ('hour', 'day', 'week', 'month', 'agent_id', 'queue_id', 'tenant_id')
$$;
create temporary table before on commit drop as select pg_temp.figures(true) as figures;
select is(figures -> 'offered', '9', 'totals leave the report as it was') from before;
select is(pg_temp.figures(false), figures, 'rolled up as often as one likes, totals say what sessions say') from before;
select is(wait_p50, null, '... apart from percentiles') from pg_temp.march(exact => false);
select pg_temp.near(occupancy, 2120.0 / 7200, 'agents'' time is read from totals') from pg_temp.march(array['agent'])
where agent_id = pg_temp.person('anna');

-- late changes are found
update chat.settings set rate_within = '100 years';
update public.chat_sessions set rating = 1 where id = pg_temp.s(2);
select pg_temp.near(csat, 2.0 / 3, 'a late rating is in no total yet') from pg_temp.march(exact => false);
select isnt(chat.roll_up_touched(), 0::bigint, 'the worker finds what was touched');
select pg_temp.near(csat, 1.0 / 3, '... and adds it up anew') from pg_temp.march(exact => false);
select is(count(*), 0::bigint, '... once') from chat.touched;
select is(pg_temp.figures(false), pg_temp.figures(true), 'totals and sessions agree again');

-- what is deleted stays in the report
update before set figures = pg_temp.figures(true);
delete from public.chat_sessions where id in (pg_temp.s(1), pg_temp.s(3), pg_temp.s(5));
select is(pg_temp.figures(true), figures, 'a report outlives its sessions') from before;
select is(wait_p50, null, '... but for percentiles, as a part''s would pass for the whole''s') from pg_temp.march();
select is(service_level, null, '... and limits they were not counted with') from pg_temp.march(answer_within => '100 s');
select chat.roll_up_touched();
select chat.roll_up('2026-03-02', '2026-03-03');
select chat.roll_up('2026-03-02', '2026-03-03');
select is(pg_temp.figures(false), figures, '... however often totals are computed anew') from before;
select is(pg_temp.figures(true), figures, '... either way') from before;

-- who may have which
create function pg_temp.offered(who text, agent uuid default null, tenant uuid default null) returns bigint
language plpgsql
as $$
declare
  result bigint;
begin
  perform pg_temp.act_as(who);
  result := (select offered from public.chat_report('2026-03-02', '2026-03-03', agent => offered.agent, tenant => offered.tenant));
  perform pg_temp.act_as('nobody');
  return result;
end
$$;
select is(array[pg_temp.offered('service_role'), pg_temp.offered('root'), pg_temp.offered('mary'),
  pg_temp.offered('max of beta'), pg_temp.offered('anna')], '{9,9,9,1,4}', 'leads have their tenant''s, agents their own');
select throws_ok($$ select pg_temp.offered('carla') $$, '42501', null, 'a customer has none');
select pg_temp.act_as('nobody');
select throws_ok($$ select pg_temp.offered('anna', agent => pg_temp.person('albert')) $$, '42501', null, 'an agent no colleague''s');
select pg_temp.act_as('nobody');
select throws_ok($$ select pg_temp.offered('max of beta', tenant => 'aaaaaaaa-0000-4000-8000-000000000000') $$,
  '42501', null, 'a lead no other tenant''s');
select pg_temp.act_as('nobody');

-- what is asked wrongly
select throws_ok($$ select public.chat_report('2026-03-02', '2026-03-03', '{moon}') $$, '22023', 'cannot group by ''moon''', 'unknown groups');
select throws_ok($$ select public.chat_report('2026-03-03', '2026-03-02') $$, '22023', '"from" must be before "to"', 'time runs forward');
select throws_ok($$ select public.chat_report('2026-03-02', '2026-03-03', time_zone => 'Mars/Phobos') $$, '22023',
  'unknown time zone ''Mars/Phobos''', 'unknown time zones');

select * from finish();
rollback;
