-- What is measured about a session: each number by the clock, and none that chat.measure would correct.
begin;
\ir support/desk.psql
select plan(59);
create temporary table s (name text primary key, id uuid) on commit drop;
grant all on s to public;
create function pg_temp.session(wanted text) returns uuid language sql stable as $$ select id from s where name = wanted $$;
create function pg_temp.row_of(wanted text) returns public.chat_sessions
language sql security definer
as $$ select c from public.chat_sessions as c where c.id = (select id from s where name = wanted) $$;

-- So much time goes by: everything that has happened is so much longer ago.
create function pg_temp.pass(span interval) returns void
language plpgsql security definer
as $$
begin
  perform set_config('session_replication_role', 'replica', true);
  update public.chat_sessions set
    started_at = started_at - span, assigned_at = assigned_at - span, agent_joined_at = agent_joined_at - span,
    ended_at = ended_at - span, unanswered_since = unanswered_since - span, last_message_at = last_message_at - span,
    agent_answered_at = agent_answered_at - span;
  update public.chat_messages set created_at = created_at - span, read_at = read_at - span;
  update chat.queue set queued_at = queued_at - span, entered_at = entered_at - span, left_at = left_at - span;
  update chat.assignments set
    assigned_at = assigned_at - span, released_at = released_at - span, accepted_at = accepted_at - span,
    first_response_at = first_response_at - span, carried_at = carried_at - span;
  update chat.responses set asked_at = asked_at - span, answered_at = answered_at - span;
  perform set_config('session_replication_role', 'origin', true);
end
$$;
create function pg_temp.pass_seconds(seconds integer) returns void
language sql as $$ select pg_temp.pass(make_interval(secs => seconds)) $$;
-- the sessions, of all there are, that chat.measure would correct
create function pg_temp.wrong() returns text
language plpgsql security definer
as $$
declare
  wrong text;
begin
  select string_agg(s.name, ', ') into wrong from s where chat.measure(s.id);
  return wrong;
end
$$;
-- a sum of gaps is cut at whole seconds of the clock, which the test does not stop
create function pg_temp.about(have integer, want integer, what text) returns text
language sql as $$ select ok(have between want and want + 5, format('%s: %s for %s', what, have, want)) $$;
create function pg_temp.begin(who text, called text) returns void
language plpgsql
as $$
begin
  perform pg_temp.act_as(who);
  insert into s select called, id from pg_temp.start_chat();
end
$$;
create function pg_temp.speak(who text, called text) returns void
language plpgsql
as $$
begin
  perform pg_temp.act_as(who);
  perform pg_temp.say(pg_temp.session(called), who || ' says', 'customer');
end
$$;
create function pg_temp.finish_chat(who text, called text) returns void
language plpgsql
as $$
begin
  perform pg_temp.act_as(who);
  update public.chat_sessions set status = 'ended' where id = pg_temp.session(called);
end
$$;

-- a chat that is answered
select pg_temp.available('anna');
select pg_temp.begin('carla', 'plain');
select pg_temp.act_as('nobody');
select is((a).assigned_at, (select assigned_at from chat.assignments), 'assigned when its leg begins') from pg_temp.row_of('plain') as a;
select is((a).queue_seconds, 0, 'who is served at once does not queue') from pg_temp.row_of('plain') as a;
select pg_temp.pass_seconds(30);
select pg_temp.speak('carla', 'plain');
select is((a).unanswered_since, (a).last_message_at, 'unanswered from the first word') from pg_temp.row_of('plain') as a;
select pg_temp.pass_seconds(20);
select pg_temp.speak('carla', 'plain');
select cmp_ok((a).unanswered_since, '<', (a).last_message_at, '... not from the last') from pg_temp.row_of('plain') as a;
select pg_temp.pass_seconds(25);
select pg_temp.speak('anna', 'plain');
select is((a).first_response_seconds, 45, 'the first response counts from the customer''s first word') from pg_temp.row_of('plain') as a;
select is((a).wait_time_seconds, 75, '... the wait from the start') from pg_temp.row_of('plain') as a;
select is((a).reaction_seconds, 75, '... and the reaction from the assignment') from pg_temp.row_of('plain') as a;
select is((a).unanswered_since, null, 'answered') from pg_temp.row_of('plain') as a;
select is((a).agent_answered_at, (a).agent_joined_at, '... by the agent who has it') from pg_temp.row_of('plain') as a;
select pg_temp.about((a).active_seconds, 45, 'what passed between messages was active') from pg_temp.row_of('plain') as a;
select pg_temp.act_as('nobody');
select is(chat.seconds(answered_at - asked_at), 45, 'a run is answered') from chat.responses;
select is(agent_id, pg_temp.person('anna'), '... by whom') from chat.responses;
select chat.tell_customer(pg_temp.session('plain'), 'a notice');
select pg_temp.pass_seconds(300);
select pg_temp.speak('carla', 'plain');
select pg_temp.about((a).active_seconds, 45 + 240, 'an agent waits four minutes at most') from pg_temp.row_of('plain') as a;
select pg_temp.pass_seconds(700);
select pg_temp.speak('anna', 'plain');
select pg_temp.about((a).active_seconds, 45 + 240 + 600, 'a customer ten') from pg_temp.row_of('plain') as a;
select pg_temp.speak('anna', 'plain');
select is((a).first_response_seconds, 45, 'the first response is the first') from pg_temp.row_of('plain') as a;
select pg_temp.act_as('nobody');
select is(count(*), 2::bigint, 'runs are answered once each') from chat.responses;
select is((a).abandoned, null, 'an open chat is not judged') from pg_temp.row_of('plain') as a;
select pg_temp.pass_seconds(10);
select pg_temp.finish_chat('anna', 'plain');
select is((a).handle_seconds, 1010, 'the agent''s time runs from his first sign to the end') from pg_temp.row_of('plain') as a;
select is(((a).abandoned, (a).short_abandon, (a).missed, (a).dropped), (false, false, false, false), 'answered, and to the last word') from pg_temp.row_of('plain') as a;
select is(pg_temp.wrong(), null, 'nothing to correct');

-- left in line
select pg_temp.act_as('nobody');
update public.support_agents set status = 'offline';
select pg_temp.begin('conrad', 'short');
select pg_temp.pass_seconds(5);
select pg_temp.finish_chat('conrad', 'short');
select is(((a).abandoned, (a).short_abandon, (a).missed, (a).dropped), (true, true, false, false), 'who leaves soon') from pg_temp.row_of('short') as a;
select is((a).queue_seconds, 5, 'queued') from pg_temp.row_of('short') as a;
select pg_temp.begin('conrad', 'long');
select pg_temp.speak('conrad', 'long');
select pg_temp.pass_seconds(60);
select pg_temp.finish_chat('conrad', 'long');
select is(((a).abandoned, (a).short_abandon, (a).missed, (a).dropped), (true, false, false, true), 'who leaves late, his words unanswered') from pg_temp.row_of('long') as a;
select pg_temp.begin('conrad', 'reload');
select pg_temp.pass_seconds(40);
select pg_temp.begin('conrad', 'reloaded');
select pg_temp.pass_seconds(2);
select pg_temp.finish_chat('conrad', 'reloaded');
select is(((a).abandoned, (a).short_abandon, (a).queue_seconds), (true, false, 42), 'a reload in line is one wait') from pg_temp.row_of('reloaded') as a;
select is(((a).abandoned, (a).queue_seconds), (false, 0), '... and no leaving') from pg_temp.row_of('reload') as a;
select is(pg_temp.wrong(), null, 'nothing to correct');

-- an agent who never answered
select pg_temp.act_as('nobody');
select pg_temp.available('anna');
select pg_temp.begin('conrad', 'missed');
select pg_temp.pass_seconds(40);
select pg_temp.finish_chat('conrad', 'missed');
select is(((a).abandoned, (a).short_abandon, (a).missed, (a).dropped), (true, false, true, false), 'missed') from pg_temp.row_of('missed') as a;
select is((a).handle_seconds, 0, '... and not handled') from pg_temp.row_of('missed') as a;

-- ended over the customer's words, and reopened
select pg_temp.begin('celia', 'dropped');
select pg_temp.speak('celia', 'dropped');
select pg_temp.speak('anna', 'dropped');
select pg_temp.pass_seconds(10);
select pg_temp.speak('celia', 'dropped');
select pg_temp.pass_seconds(5);
select pg_temp.finish_chat('anna', 'dropped');
select is(((a).abandoned, (a).dropped, (a).handle_seconds), (false, true, 15), 'dropped') from pg_temp.row_of('dropped') as a;
select pg_temp.pass_seconds(20);
select pg_temp.speak('celia', 'dropped');
select is(((a).status::text, (a).dropped, (a).abandoned), ('active'::text, null::boolean, null::boolean), 'reopened, it is not judged any more') from pg_temp.row_of('dropped') as a;
select is((a).agent_answered_at, null, '... and waits for its agent again') from pg_temp.row_of('dropped') as a;
select is(pg_temp.wrong(), null, 'nothing to correct while it is open');
select pg_temp.pass_seconds(5);
select pg_temp.speak('anna', 'dropped');
select pg_temp.pass_seconds(7);
select pg_temp.finish_chat('celia', 'dropped');
select is(((a).dropped, (a).handle_seconds), (false, 15 + 7), 'its next end counts, with both legs') from pg_temp.row_of('dropped') as a;
select pg_temp.act_as('nobody');
select is(max(chat.seconds(answered_at - asked_at)), 30, 'a run goes on over the end')
from chat.responses where session_id = pg_temp.session('dropped');
select pg_temp.speak('celia', 'dropped');
select is((a).dropped, false, 'words after leaving are not dropped') from pg_temp.row_of('dropped') as a;
select is(pg_temp.wrong(), null, 'nothing to correct');

-- from hand to hand
select pg_temp.begin('celia', 'passed');
select pg_temp.speak('celia', 'passed');
select pg_temp.act_as('nobody');
update public.support_agents set status = 'offline';
select pg_temp.act_as('anna');
update public.chat_sessions set status = 'waiting' where id = pg_temp.session('passed');
select is(((a).requeues_count, (a).transfers_count, (a).agent_id), (1, 0, null::uuid), 'given back') from pg_temp.row_of('passed') as a;
select pg_temp.pass_seconds(30);
select pg_temp.act_as('nobody');
select pg_temp.available('albert');
select is(((a).agent_id, (a).queue_seconds), (pg_temp.person('albert'), 30), 'queued between') from pg_temp.row_of('passed') as a;
select is((a).assigned_at, (select max(assigned_at) from chat.assignments), 'assigned anew') from pg_temp.row_of('passed') as a;
select pg_temp.pass_seconds(10);
select pg_temp.act_as('mary');
update public.chat_sessions set agent_id = pg_temp.person('anna') where id = pg_temp.session('passed');
select is(((a).requeues_count, (a).transfers_count), (1, 1), 'handed on') from pg_temp.row_of('passed') as a;
select pg_temp.pass_seconds(7);
select pg_temp.speak('anna', 'passed');
select is(((a).first_response_seconds, (a).reaction_seconds), (47, 7), 'the customer waited for all of them, the one who answered reacted') from pg_temp.row_of('passed') as a;
select pg_temp.act_as('mary');
update public.chat_sessions set agent_id = pg_temp.person('albert') where id = pg_temp.session('passed');
select is((a).agent_answered_at, null, 'the next one has not answered yet') from pg_temp.row_of('passed') as a;
select pg_temp.pass_seconds(3);
select pg_temp.speak('albert', 'passed');
select is((a).reaction_seconds, 7, '... and the first reaction stays') from pg_temp.row_of('passed') as a;
select pg_temp.pass_seconds(5);
select pg_temp.finish_chat('albert', 'passed');
select is((a).handle_seconds, 5, 'whose legs count from their first signs') from pg_temp.row_of('passed') as a;
select is(pg_temp.wrong(), null, 'nothing to correct');

-- to the customer's next session
select pg_temp.act_as('nobody');
update public.support_agents set status = 'offline';
select pg_temp.available('anna');
select pg_temp.begin('carla', 'left');
select pg_temp.speak('carla', 'left');
select pg_temp.act_as('anna');
select public.mark_read(pg_temp.session('left'), (select id from public.chat_messages where session_id = pg_temp.session('left')));
select pg_temp.pass_seconds(20);
select pg_temp.speak('carla', 'left');
select pg_temp.pass_seconds(50);
select pg_temp.begin('carla', 'found');
select is(((a).abandoned, (a).dropped, (a).handle_seconds), (false, true, 70), 'a session left for another is judged by what stayed') from pg_temp.row_of('left') as a;
select pg_temp.act_as('nobody');
select is(((a).unanswered_since, (a).last_message_at), ((select created_at from public.chat_messages where session_id = pg_temp.session('found') and sender_type = 'customer'), (a).unanswered_since), 'unanswered words go along') from pg_temp.row_of('found') as a;
select pg_temp.pass_seconds(10);
select pg_temp.speak('anna', 'found');
select is(((a).first_response_seconds, (a).reaction_seconds, (a).wait_time_seconds), (60, 10, 10), '... and count from when they were said') from pg_temp.row_of('found') as a;
select pg_temp.pass_seconds(5);
select pg_temp.finish_chat('carla', 'found');
select is((a).handle_seconds, 15, 'the leg counts from the new start') from pg_temp.row_of('found') as a;
select pg_temp.act_as('nobody');
select is(array_agg(first_response_at is not null order by assigned_at, session_id = pg_temp.session('found')), '{f,t}', 'each leg has its own first answer')
from chat.assignments where session_id in (pg_temp.session('left'), pg_temp.session('found'));
select is(pg_temp.wrong(), null, 'nothing to correct');

-- history
select pg_temp.act_as('service_role');
with given as (
  insert into public.chat_sessions (customer_id, customer_name, customer_email, status, started_at, ended_at, first_response_seconds, abandoned, handle_seconds)
  values (pg_temp.person('carla'), 'Carla', 'carla@desk.test', 'ended', '2001-01-01 10:00', '2001-01-01 10:30', 77, false, 12)
  returning id
)
insert into s select 'history', id from given;
select is(((a).first_response_seconds, (a).abandoned, (a).handle_seconds, (a).dropped), (77, false, 12, null::boolean), 'history is what it says') from pg_temp.row_of('history') as a;
insert into public.chat_messages (session_id, sender_id, sender_type, message, created_at)
select pg_temp.session('history'), pg_temp.person(who), side, 'x', '2001-01-01 10:00'::timestamptz + said
from (values ('anna', 'agent', interval '3 min'), ('carla', 'customer', '1 min'), ('carla', 'customer', '4 min')) as m (who, side, said);
select is(((a).first_response_seconds, (a).handle_seconds, (a).dropped), (120, 12, true), 'messages in any order are measured in theirs') from pg_temp.row_of('history') as a;
select is(pg_temp.wrong(), null, 'nothing to correct');

-- correcting
select pg_temp.act_as('nobody');
create temporary table before on commit drop as select * from public.chat_sessions where id = pg_temp.session('passed');
set local session_replication_role = replica;
update public.chat_sessions set
  queue_seconds = 1, first_response_seconds = null, reaction_seconds = 1, active_seconds = 1, handle_seconds = 1, abandoned = true, dropped = true,
  transfers_count = 5, requeues_count = 5, unread_by_agent = 5, unread_by_customer = 5, unanswered_since = now(), assigned_at = now()
where id = pg_temp.session('passed');
delete from chat.responses where session_id = pg_temp.session('passed');
set local session_replication_role = origin;
select ok(chat.measure(pg_temp.session('passed')), 'what is wrong is found');
select is((select to_jsonb(c) from public.chat_sessions as c where c.id = b.id), to_jsonb(b), '... and put right') from before as b;
select is(chat.seconds(answered_at - asked_at), 47, '... with the runs') from chat.responses where session_id = pg_temp.session('passed');

-- the end of it
select pg_temp.begin('celia', 'gone');
select pg_temp.act_as('nobody');
select lives_ok($$ delete from public.chat_sessions where id = pg_temp.session('gone') $$, 'a session with a seat can be deleted');
select is(load, 0, '... which is free again') from chat.agents where user_id = pg_temp.person('anna');

select * from finish();
rollback;
