-- Who is connected, and what follows when somebody is gone.
begin;
\ir support/desk.psql
select plan(42);

-- The service writes who is subscribed; here this does.
create temporary table subscribed (who text, session_id uuid) on commit drop;
create or replace function chat.listeners()
returns table (user_id text, session_id uuid, since timestamptz)
language plpgsql stable
as $$
begin
  return query
  select p.id::text, s.session_id, now() - interval '1 minute' from pg_temp.subscribed s join pg_temp.people p on p.name = s.who;
end
$$;

delete from chat.connections;
update chat.watch set looked_at = null, steady_since = null, last_live_at = null;

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
  return session;
end
$$;

-- So much time goes by, with a look every five seconds as the worker takes them.
create function pg_temp.pass(time_passed interval) returns void
language plpgsql
as $$
begin
  for step in 1 .. ceil(extract(epoch from time_passed) / 5)::integer loop
    update chat.watch set
      looked_at = looked_at - interval '5 seconds',
      steady_since = steady_since - interval '5 seconds';
    update chat.agents set last_seen_at = last_seen_at - interval '5 seconds';
    update chat.connections set seen_at = seen_at - interval '5 seconds';
    perform chat.watch_connections();
  end loop;
end
$$;

create function pg_temp.release() returns bigint
language plpgsql
as $$
declare
  done bigint := 0;
begin
  while done < 20 and chat.release_lost() > 0 loop
    done := done + 1;
  end loop;
  return done;
end
$$;

create function pg_temp.status(who text) returns text
language sql stable
as $$ select status from public.support_agents where user_id = pg_temp.person(who) $$;

create function pg_temp.state(session uuid) returns text
language sql stable
as $$ select status::text from public.chat_sessions where id = session $$;

-- Sets down what the files of messages keep.
create function pg_temp.note(session uuid, answered boolean, waits boolean) returns void
language plpgsql
as $$
begin
  set local session_replication_role = replica;
  update chat.assignments set first_response_at = case when answered then now() end where session_id = session and released_at is null;
  update public.chat_sessions
  set unanswered_since = case when waits then now() end,
      agent_joined_at = case when answered then now() end
  where id = session;
  set local session_replication_role = origin;
end
$$;

-- seeing
select pg_temp.available('anna', 5);
create temporary table started (who text primary key, id uuid) on commit drop;
insert into started values ('carla', pg_temp.start_as('carla')), ('conrad', pg_temp.start_as('conrad')), ('celia', pg_temp.start_as('celia'));
grant all on started to public;
select is(chat.watch_connections(), 0::bigint, 'nobody is there, nothing is written');
insert into subscribed values ('anna', null), ('mary', null), ('carla', (select id from started where who = 'carla'));
select is(chat.watch_connections(), 2::bigint, 'an agent and a customer are seen');
select isnt(last_seen_at, null, '... the agent') from chat.agents where user_id = pg_temp.person('anna');
select results_eq('select session_id from chat.connections', $$ select id from started where who = 'carla' $$,
  '... and the customer in his session');
select is(chat.watch_connections(), 0::bigint, '... and for ten seconds not again');
insert into subscribed values ('conrad', (select id from started where who = 'celia'));
select is(chat.watch_connections(), 0::bigint, 'who listens to another''s chat is not its customer');
delete from subscribed where who = 'conrad';

-- agents
select pg_temp.note(id, true, false) from started where who = 'carla';
select pg_temp.note(id, true, true) from started where who = 'conrad';
select pg_temp.note(id, false, false) from started where who = 'celia';
select pg_temp.pass('2 minutes');
select is(pg_temp.release(), 0::bigint, 'who is there is not lost');
select pg_temp.available('albert', 5);
delete from subscribed where who = 'anna';
select pg_temp.pass('40 seconds');
select is(pg_temp.release(), 0::bigint, 'an agent gone for a moment is not lost');
update chat.settings set agent_lost_after = null;
select pg_temp.pass('60 seconds');
select is(pg_temp.release(), 0::bigint, 'null: nobody is lost');
update chat.settings set agent_lost_after = default;

select cmp_ok(pg_temp.release(), '>=', 3::bigint, 'an agent gone for a minute is lost');
select is(pg_temp.status('anna'), 'offline', '... is offline');
select is(pg_temp.status('albert'), 'available', '... and not the one who was never seen');
select is(agent_id, pg_temp.person('anna'), 'a chat that he answered stays his')
from public.chat_sessions join started using (id) where who = 'carla';
select isnt(agent_id, pg_temp.person('anna'), 'a customer who waits for his answer goes to another')
from public.chat_sessions join started using (id) where who = 'conrad';
select isnt(agent_id, pg_temp.person('anna'), '... and so does a chat he never touched')
from public.chat_sessions join started using (id) where who = 'celia';
select pg_temp.note(id, true, true) from started where who = 'carla';
select is(chat.release_lost(), 1::bigint, 'a customer who writes to who is gone does not wait for him');
select isnt(agent_id, pg_temp.person('anna'), '... he goes to another')
from public.chat_sessions join started using (id) where who = 'carla';
select is(chat.release_lost(), 0::bigint, 'lost once');

update public.support_agents set status = 'available' where user_id = pg_temp.person('anna');
insert into started values ('max of beta', pg_temp.start_as('max of beta'));
select is(agent_id, pg_temp.person('anna'), 'who makes himself available without realtime is given chats')
from public.chat_sessions join started using (id) where who = 'max of beta';
select is(pg_temp.release(), 0::bigint, '... and keeps them');
update public.chat_sessions set status = 'ended' where customer_id = pg_temp.person('max of beta');
update public.support_agents set status = 'offline' where user_id = pg_temp.person('anna');
insert into subscribed values ('anna', null);
select pg_temp.pass('5 seconds');
select is(lost_at, null, 'who is back is not lost') from chat.agents where user_id = pg_temp.person('anna');
select is(pg_temp.status('anna'), 'offline', '... and available when he says so');

-- the service goes, not the people
select pg_temp.available('anna', 5);
create temporary table meanwhile on commit drop as select * from subscribed;
delete from subscribed;
select pg_temp.pass('5 minutes');
select is(pg_temp.release(), 0::bigint, 'while nobody at all is connected nobody is lost');
insert into subscribed select * from meanwhile where who = 'mary';
select pg_temp.pass('40 seconds');
select is(pg_temp.release(), 0::bigint, 'when the service is back everybody has his time to come back');
select pg_temp.pass('60 seconds');
select cmp_ok(pg_temp.release(), '>=', 1::bigint, '... and no more');

insert into public.support_agents (user_id, status)
select id, 'available' from people where name in ('max of beta', 'root', 'mary');
update public.support_agents set status = 'available';
insert into subscribed select name, null from people where name in ('anna', 'albert', 'agnes of beta', 'max of beta', 'root');
select pg_temp.pass('2 minutes');
delete from subscribed where who <> 'mary';
select pg_temp.pass('75 seconds');
select is(pg_temp.release(), 0::bigint, 'when most go at once it was the service');
select pg_temp.pass('60 seconds');
select cmp_ok(pg_temp.release(), '>=', 5::bigint, '... for a while');
insert into subscribed select name, null from people where name = 'anna';
select pg_temp.available('anna', 5);
select pg_temp.pass('2 minutes');
delete from subscribed where who = 'anna';
update chat.agents set last_seen_at = now() - interval '20 minutes' where user_id = pg_temp.person('anna');
update chat.watch set looked_at = now() - interval '10 minutes', steady_since = now() - interval '1 hour';
select is(pg_temp.release(), 0::bigint, 'without a look of late nobody is lost');
select chat.watch_connections();
select is(pg_temp.release(), 0::bigint, '... nor after a gap');

-- customers
update public.support_agents set status = 'offline';
update chat.agents set last_seen_at = null, lost_at = null;
update public.chat_sessions set status = 'ended' where status in ('waiting', 'active');
select chat.watch_connections();
select is_empty('select from chat.connections', 'a session that is over is watched no more');
delete from started;
insert into started values ('carla', pg_temp.start_as('carla')), ('conrad', pg_temp.start_as('conrad'));
insert into subscribed select who, id from started where who = 'carla';
select pg_temp.pass('5 minutes');
select is(chat.end_lost(), null, 'who listens is not lost');
delete from subscribed where who = 'carla';
select pg_temp.pass('100 seconds');
select is(chat.end_lost(), null, 'a customer gone for a moment keeps his place');
select pg_temp.pass('30 seconds');
select is(chat.end_lost(), (select id from started where who = 'carla'), 'a customer gone for two minutes has left the line');
select is(pg_temp.state(id), 'abandoned', '... his session is abandoned') from started where who = 'carla';
select is(
  (select details ->> 'reason' from chat.events e join started s on s.id = e.session_id and s.who = 'carla' where kind = 'ended'),
  'lost', '... and its trail says why');
select is(chat.end_lost(), null, 'who was never seen keeps his place');

select pg_temp.available('anna', 5);
insert into subscribed select who, id from started where who = 'conrad';
select pg_temp.pass('5 seconds');
delete from subscribed where who = 'conrad';
select pg_temp.note(id, true, true) from started where who = 'conrad';
select pg_temp.pass('5 minutes');
select pg_temp.note(id, true, false) from started where who = 'conrad';
select is(chat.end_lost(), null, 'in a chat a customer may be gone for longer');
select pg_temp.pass('11 minutes');
select pg_temp.note(id, true, true) from started where who = 'conrad';
select is(chat.end_lost(), null, '... and for long while he waits for an answer');
select pg_temp.note(id, true, false) from started where who = 'conrad';
select is(chat.end_lost(), (select id from started where who = 'conrad'), '... else his chat is over');

-- typing
insert into started values ('celia', pg_temp.start_as('celia'));
insert into subscribed select who, id from started where who = 'celia';
select pg_temp.pass('5 seconds');
insert into public.chat_typing_indicators (session_id, user_id)
select id, pg_temp.person(p) from started, unnest(array['celia', 'anna']) as p where who = 'celia';
select is(chat.expire_typing(), 0::bigint, 'who is connected types on, and so does who was never seen');
delete from subscribed where who = 'celia';
select is(chat.expire_typing(), 1::bigint, 'who is gone types no more');
select is(is_typing, false, '... he himself') from public.chat_typing_indicators where user_id = pg_temp.person('celia');
select * from finish();
rollback;
