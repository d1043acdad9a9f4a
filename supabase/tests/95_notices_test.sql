-- The line as those in it see it.
begin;
\ir support/desk.psql
select plan(43);

create temporary table subscribed (who text, session_id uuid, since timestamptz) on commit drop;
create or replace function chat.listeners()
returns table (user_id text, session_id uuid, since timestamptz)
language plpgsql stable
as $$
begin
  return query
  select p.id::text, s.session_id, s.since from pg_temp.subscribed s join pg_temp.people p on p.name = s.who;
end
$$;
delete from chat.connections;
update chat.watch set looked_at = null, steady_since = null, last_live_at = null;

create temporary table started (who text primary key, id uuid) on commit drop;
grant all on started to public;

create function pg_temp.start_as(who text) returns uuid
language plpgsql
as $$
declare
  session uuid;
begin
  perform pg_temp.act_as(who);
  session := (select s.id from pg_temp.start_chat() as s);
  perform pg_temp.settle();
  perform pg_temp.act_as('nobody');
  insert into started values (who, session) on conflict on constraint started_pkey do update set id = session;
  return session;
end
$$;

create function pg_temp.told(who text) returns text[]
language sql stable
as $$
  select coalesce(array_agg(m.message order by m.seq), '{}')
  from public.chat_messages m join started s on s.id = m.session_id
  where s.who = told.who and m.sender_type = 'system'
$$;

-- Gives a session this place, long after the last notice.
create function pg_temp.put_at(who text, place integer) returns void
language plpgsql
as $$
begin
  set local session_replication_role = replica;
  update public.chat_sessions set queue_position = place where id = (select id from started where started.who = put_at.who);
  update chat.queue set told_at = told_at - interval '1 minute';
  set local session_replication_role = origin;
end
$$;

-- the order of lines
select pg_temp.start_as(name) from people where name in ('carla', 'conrad', 'celia', 'mary', 'root', 'max of beta') order by name;
set local session_replication_role = replica;
update chat.queue set queue_id = '00000000-0000-4000-8000-000000000137',
  tenant_id = (select tenant_id from public.chat_sessions s where s.id = session_id),
  queued_at = now() - interval '10 minutes' + id % 100 * interval '1 second', rank_at = null;
update chat.queue set rank_at = queued_at;
update public.chat_sessions set queue_position = null, queue_id = '00000000-0000-4000-8000-000000000137'
where id in (select id from started);
set local session_replication_role = origin;

create function pg_temp.places() returns text
language sql stable
as $$
  select string_agg(who || ' ' || s.queue_position, ', ' order by s.tenant_id nulls first, q.name desc, s.queue_position)
  from started join public.chat_sessions s using (id) left join public.chat_queues q on q.id = s.queue_id
$$;

select is(chat.refresh_positions(), 6::bigint, 'the line is numbered');
select is(pg_temp.places(), 'carla 1, celia 2, conrad 3, mary 4, root 5, max of beta 1', 'each tenant''s by itself');
select is(chat.refresh_positions(), 0::bigint, '... once');
update chat.queue set rank_at = rank_at - interval '1 hour' where session_id = (select id from started where who = 'root');
select is(chat.refresh_positions(), 5::bigint, 'priority moves those it passes');
select is(pg_temp.places(), 'root 1, carla 2, celia 3, conrad 4, mary 5, max of beta 1', '... and nobody else');

insert into public.chat_queues (id, name) values ('00000000-0000-4000-8000-0000000000b1', 'Billing');
set local session_replication_role = replica;
update chat.queue set queue_id = '00000000-0000-4000-8000-0000000000b1'
where session_id in (select id from started where who in ('carla', 'conrad'));
update public.chat_sessions set queue_id = '00000000-0000-4000-8000-0000000000b1'
where id in (select id from started where who in ('carla', 'conrad'));
set local session_replication_role = origin;
select chat.refresh_positions();
select is(pg_temp.places(), 'root 1, celia 2, mary 3, carla 1, conrad 2, max of beta 1', 'each queue''s by itself');

-- the status
create function pg_temp.status_of(whose text) returns text
language sql
as $$
  select concat_ws(' ', queue_name, queue_open, queue_position, line_length, wait_low_seconds, wait_high_seconds)
  from public.chat_queue_status((select id from started where who = whose))
$$;
select pg_temp.act_as('conrad');
select is(pg_temp.status_of('conrad'), 'Billing t 2 2', 'a customer asks for his place');
select is(pg_temp.status_of('carla'), null, '... and for nobody else''s');
select pg_temp.act_as('anna');
select is(pg_temp.status_of('mary'), 'Default t 3 3', 'staff ask for any place in their lines');
select pg_temp.act_as('agnes of beta');
select is(pg_temp.status_of('mary'), null, '... and in no others');
select pg_temp.act_as('service_role');
select is(pg_temp.status_of('mary'), 'Default t 3 3', 'the service role asks for any');
select pg_temp.act_as('anon');
select throws_ok($$ select pg_temp.status_of('mary') $$, '42501', null, 'nobody without a name asks');
select pg_temp.act_as('nobody');

-- the estimate
create function pg_temp.finish_chats(count integer, ago interval, took interval) returns void
language plpgsql
as $$
begin
  set local session_replication_role = replica;
  insert into chat.assignments (session_id, agent_id, queue_id, assigned_at, released_at, outcome)
  select gen_random_uuid(), pg_temp.person('anna'), '00000000-0000-4000-8000-000000000137',
    now() - ago - took, now() - ago, 'ended'
  from generate_series(1, count);
  set local session_replication_role = origin;
end
$$;

update chat.agents set available = true, capacity = 3, queues = '{00000000-0000-4000-8000-000000000137}'
where user_id = pg_temp.person('anna');
select pg_temp.finish_chats(19, '20 minutes', '10 minutes');
select is(pg_temp.status_of('mary'), 'Default t 3 3', 'of 19 chats nothing can be told');
select pg_temp.finish_chats(1, '20 minutes', '10 minutes');
-- 3 seats, each free once in 600 s; (3 - 1.73) * 200 to (3 + 1.73) * 200
select is(pg_temp.status_of('mary'), 'Default t 3 3 253 947', 'of 20 long ago it is told by seats and length');
update chat.agents set available = false where user_id = pg_temp.person('anna');
select is(pg_temp.status_of('mary'), 'Default t 3 3', '... if somebody is there');
select pg_temp.finish_chats(45, '1 minute', '10 minutes');
-- 45 in 900 s
select is(pg_temp.status_of('mary'), 'Default t 3 3 25 95', 'of 20 just now by how often a seat came free');
select is(pg_temp.status_of('conrad'), 'Billing t 2 2', '... in that queue');
select is(chat.in_minutes(25, 95), '1-2', 'minutes are a range');
select is(chat.in_minutes(70, 110), '1-2', '...');
select is(chat.in_minutes(0, 60), '1', '... or one');
select is(chat.in_minutes(180, 180), '3', '... number');

-- what is told, and when: never seen subscribed, by the clock
select is(chat.tell_places(), 0::bigint, 'at first channels are not open yet');
update chat.queue set entered_at = entered_at - interval '4 seconds';
select is(chat.tell_places(), 6::bigint, 'where realtime tells nothing the clock does');
select is(pg_temp.told('mary'), '{You are number 3 in the queue. Estimated wait: about 1-2 min.}', 'the place and the wait');
select is(pg_temp.told('conrad'), '{You are number 2 in the queue.}', '... or the place alone');
select is(pg_temp.told('root'), '{You are next.}', '... or that one is next');
select is(chat.tell_places(), 0::bigint, 'once');
update chat.queue set told_at = told_at - interval '1 minute';
select is(chat.tell_places(), 0::bigint, '... while nothing changes');

-- steps
update chat.settings set place_and_wait_notice = null;
select pg_temp.put_at('mary', 4);
select is(chat.tell_places(), 0::bigint, 'nobody is told that it got worse');
select pg_temp.put_at('mary', 2);
update chat.queue set told_at = clock_timestamp();
select is(chat.tell_places(), 0::bigint, 'not too often');
update chat.queue set told_at = told_at - interval '16 seconds';
select is(chat.tell_places(), 1::bigint, 'near the front each place counts');
select is((pg_temp.told('mary'))[2], 'You are number 2 in the queue.', '... without the wait, if the desk tells none');
select pg_temp.put_at('mary', 100);
update chat.queue set told_position = 100 where session_id = (select id from started where who = 'mary');
select pg_temp.put_at('mary', 81);
select is(chat.tell_places(), 0::bigint, 'far back a step is no news');
select pg_temp.put_at('mary', 80);
select is(chat.tell_places(), 1::bigint, '... a fifth is');
update chat.settings set place_notice = 'Your place is 100% safe.', place_and_wait_notice = null;
select pg_temp.put_at('mary', 40);
select is(chat.tell_places(), 1::bigint, 'a notice may name no place');
select pg_temp.put_at('mary', 20);
select chat.tell_places();
select is((pg_temp.told('mary'))[4:], '{Your place is 100% safe.}', '... and is not said twice in a row');
update chat.settings set place_notice = null;
select pg_temp.put_at('mary', 3);
select is(chat.tell_places(), 0::bigint, 'null: nothing is told');
update chat.settings set place_notice = default;
select throws_ok($$ update chat.settings set next_notice = ' ' $$, '23514', null, 'no notice is blank');

-- the channel
delete from public.chat_messages;
update chat.queue set told_position = null, told_at = null, told_session_id = null;
insert into subscribed select who, id, now() - interval '1 minute' from started where who in ('celia', 'root');
insert into subscribed select 'celia', id, now() - interval '1 minute' from started where who = 'mary';
insert into subscribed select who, id, clock_timestamp() from started where who = 'carla';
select is(chat.tell_places(), 2::bigint, 'who listens is told; who does not yet is not');
select is(pg_temp.told('celia') || pg_temp.told('root') || pg_temp.told('mary') || pg_temp.told('carla'),
  '{You are number 2 in the queue.,You are next.}', '... nor where only another listens');
select chat.watch_connections();
delete from subscribed;
select is(chat.tell_places(), 0::bigint, 'where realtime has told once, a channel is waited for');
select pg_temp.start_as('celia');
insert into subscribed select who, id, now() - interval '1 minute' from started where who = 'celia';
update public.chat_sessions set queue_position = 2 where id = (select id from started where who = 'celia');
select is(chat.tell_places(), 1::bigint, 'who comes again is told again');

-- the agent
select pg_temp.available('anna', 50);
select chat.assign_next() from generate_series(1, 20);
select is((pg_temp.told('celia'))[2:], '{You are now connected with an agent.}', 'who waited is told once that somebody is there');

select * from finish();
rollback;
