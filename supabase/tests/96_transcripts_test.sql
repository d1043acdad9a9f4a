-- Transcripts: who may read them, what they tell in each form, and what is kept.
begin;
\ir support/desk.psql
select plan(57);
delete from chat.due_transcripts;
delete from public.chat_transcripts;
select pg_temp.available('anna');
select pg_temp.act_as('carla');
select set_config('test.session', (select id::text from pg_temp.start_chat()), true);
create function pg_temp.session() returns uuid language sql stable as $$ select current_setting('test.session')::uuid $$;
create function pg_temp.transcript(as_format text) returns text language sql
as $$ select public.chat_transcript(pg_temp.session(), as_format, 'Europe/Berlin') #>> '{}' $$;

insert into storage.objects (bucket_id, name, metadata)
values ('chat-attachments', pg_temp.session() || '/1700000000000-my <cat>.png', '{"size": 2048, "mimetype": "image/png"}');
select pg_temp.say(pg_temp.session(), '<script>alert("1")</script> & ''me'': http://shop.example/?a=1&b=2. javascript:alert(2)');
select pg_temp.say(pg_temp.session(), 'https://x.example/chat-attachments/' || pg_temp.session() || '/1700000000000-my%20%3Ccat%3E.png');
select pg_temp.act_as('anna');
select pg_temp.say(pg_temp.session(), e'Hello\n[2026-01-01 00:00:00] Carla: I agree');
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_messages set created_at = '2026-07-01 21:59:30Z' where session_id = pg_temp.session();
update public.chat_sessions set started_at = '2026-07-01 21:59:00Z', queue_id = '00000000-0000-4000-8000-000000000137',
  customer_name = e'Car"la\nAnna: <i>' where id = pg_temp.session();
set local session_replication_role = origin;

-- the document
select pg_temp.act_as('carla');
create temporary table told on commit drop as select public.chat_transcript(pg_temp.session()) as document;
grant select on told to public;
select is(document -> 'version', '1', 'a transcript says in which form it is') from told;
select is(document #>> '{session,number}', (select session_number::text from public.chat_sessions where id = pg_temp.session()), '... its number') from told;
select is(document #>> '{session,queue}', 'Default', '... its queue') from told;
select is(document #>> '{session,started_at}', '2026-07-01T21:59:00+00:00', '... its times, in UTC') from told;
select is(document #> '{agents,0}', jsonb_build_object('id', pg_temp.person('anna'), 'name', 'Anna'), '... its agents') from told;
select is(document #>> '{messages,2,sender_name}', 'Anna', '... and who wrote') from told;
select is(document #>> '{messages,1,file,name}', 'my <cat>.png', '... or sent a file') from told;
select is(document -> 'rating', 'null', '... not a rating that was not given') from told;
select ok(document::text not like '%anna@desk.test%', 'a customer learns no address of an agent') from told;
select is(jsonb_array_length(document -> 'messages'), 3, 'all messages are there') from told;

-- the text
create temporary table text_lines on commit drop as
select line from regexp_split_to_table(pg_temp.transcript('text'), e'\n') as line;
grant select on text_lines to public;
select isnt_empty($$ select from text_lines where line = 'Queue: Default' $$, 'the text has a head');
select isnt_empty($$ select from text_lines where line = 'Started: 2026-07-01 23:59' $$, '... with times in the zone that was asked for');
select isnt_empty($$ select from text_lines where line = '[2026-07-01 23:59:30] Anna: Hello' $$, '... a line for each message');
select isnt_empty($$ select from text_lines where line = '    [2026-01-01 00:00:00] Carla: I agree' $$, '... whose further lines are no other''s');
select is_empty($$ select from text_lines where line like 'Anna:%' $$, 'a name writes no line of its own');
select isnt_empty($$ select from text_lines where line like '%: [file: my <cat>.png] <https://x.example/%cat\%3E.png>' $$, 'files are named');

-- the page
create temporary table page on commit drop as select pg_temp.transcript('html') as html;
grant select on page to public;
select ok(html not like '%<script%', 'a page runs nobody''s script') from page;
select ok(html like '%&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt; &amp; &#39;me&#39;: %', 'words are escaped') from page;
select ok(html like '%<h3 dir="auto">Car&quot;la%Anna: &lt;i&gt;</h3>%', '... names too') from page;
select ok(html like '%<a href="http://shop.example/?a=1&amp;b=2" rel="noopener noreferrer nofollow">http://shop.example/?a=1&amp;b=2</a>. javascript%', 'addresses are links, without the full stop') from page;
select ok(html not like '%href="javascript%', '... of the web alone') from page;
select ok(html like '%cat\%3E.png" rel="noopener noreferrer nofollow">my &lt;cat&gt;.png</a> <small>2048 bytes</small>%', 'files are links') from page;
select ok(html like '<!doctype html>%<html lang="en">%<meta charset="utf-8">%<title>Chat CHAT-%</html>%', 'a page is complete') from page;
select ok(html like '%<time datetime="2026-07-01">Wednesday, 1 July 2026</time>%', '... and says the day') from page;
select is(chat.html_link('javascript:alert(1)', 'a'), 'a', 'what leads nowhere on the web is no link');
select is(chat.html_link('https://x.example/"onclick="x', 'a'), 'a', '... nor what ends its attribute');
select is(chat.link_addresses('https:// "https://a.example/x" b'),
  'https:// &quot;<a href="https://a.example/x" rel="noopener noreferrer nofollow">https://a.example/x</a>&quot; b', 'an address ends at a quote');

select throws_ok($$ select pg_temp.transcript('pdf') $$, '22023', 'a transcript has the format json, text or html, not pdf', 'other forms are refused');
select throws_ok($$ select public.chat_transcript_text(pg_temp.session(), 'Mars/Base') $$, '22023', null, 'so are other time zones');
select is(public.chat_transcript_text(pg_temp.session(), 'Europe/Berlin')::text, pg_temp.transcript('text'), 'the text can be had as it is');
select is(public.chat_transcript_html(pg_temp.session(), 'Europe/Berlin')::text, html, '... and the page') from page;

-- who may read
create function pg_temp.readable() returns boolean language plpgsql as $$
begin
  return public.chat_transcript(pg_temp.session()) is not null;
exception when insufficient_privilege then
  return false;
end
$$;
create function pg_temp.may_read(who text) returns boolean language plpgsql as $$
begin
  perform pg_temp.act_as(who);
  return pg_temp.readable();
end
$$;
select ok(pg_temp.may_read(who), who || ' may read it') from unnest(array['anna', 'mary', 'root', 'service_role']) as who;
select ok(not pg_temp.may_read(who), who || ' may not') from unnest(array['conrad', 'albert', 'max of beta']) as who;
select pg_temp.act_as('conrad');
select throws_ok(format('select public.chat_transcript(%L)', session), '42501', 'there is no such session, or its transcript is not yours to read',
  'a stranger is not told whether there is such a session')
from (values (pg_temp.session()), (gen_random_uuid())) as asked (session);
select pg_temp.act_as('anon');
select throws_ok($$ select public.chat_transcript(pg_temp.session()) $$, '42501', 'permission denied for function chat_transcript', 'nobody reads without an account');
select pg_temp.act_as('anna');
select throws_ok($$ select chat.transcript(pg_temp.session()) $$, '42501', null, 'the reading itself is not for callers');

-- what is kept
select pg_temp.act_as('nobody');
insert into chat.due_transcripts (session_id) values (pg_temp.session());
select is(chat.save_transcripts(), 0::bigint, 'a session under way is not kept');
select pg_temp.available('albert');
update public.chat_sessions set agent_id = pg_temp.person('albert') where id = pg_temp.session();
update public.chat_sessions set status = 'ended' where id = pg_temp.session();
select is_empty('select from public.chat_transcripts', 'the end of a session writes no transcript');
select is(chat.save_transcripts(), 1::bigint, '... the worker does');
select is(chat.save_transcripts(), 0::bigint, '... once');
select is(messages_count, 4, 'it counts messages') from public.chat_transcripts;
select is(document, chat.transcript(pg_temp.session()), '... and tells all') from public.chat_transcripts;
insert into public.chat_messages (session_id, sender_type, message_type, message) values (pg_temp.session(), 'system', 'system', 'late');
select is(chat.save_transcripts(), 1::bigint, 'a late message is added');
select is(messages_count, 5, '... to it') from public.chat_transcripts;
select pg_temp.act_as('carla');
select isnt_empty('select from public.chat_transcripts', 'its customer finds it');
update public.chat_sessions set rating = 4 where id = pg_temp.session();
select pg_temp.act_as('nobody');
select chat.save_transcripts();
select is(document #> '{rating,stars}', '4', 'so is a rating') from public.chat_transcripts;
select pg_temp.act_as('anna');
select ok(pg_temp.readable() and exists (select from public.chat_transcripts), 'who handed it over still reads it');
select throws_ok($$ delete from public.chat_transcripts $$, '42501', null, '... and does not delete it');
select pg_temp.act_as('conrad');
select is_empty('select from public.chat_transcripts', 'a stranger finds nothing');
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_sessions set status = 'waiting', agent_id = null where id = pg_temp.session();
delete from chat.assignments where agent_id = pg_temp.person('albert');
set local session_replication_role = origin;
select pg_temp.act_as('albert');
select ok(exists (select from public.chat_sessions) and not exists (select from public.chat_transcripts), 'who sees a session in line does not yet read what was kept');
select pg_temp.act_as('nobody');
set local session_replication_role = replica;
update public.chat_sessions set status = 'ended' where id = pg_temp.session();
set local session_replication_role = origin;
select pg_temp.act_as('service_role');
select public.chat_erase_session(pg_temp.session());
select pg_temp.act_as('nobody');
insert into public.chat_transcripts (session_id, messages_count, document) values (pg_temp.session(), 0, '"a worker was just writing this"')
on conflict (session_id) do update set document = excluded.document;
select chat.save_transcripts();
select is_empty('select from public.chat_transcripts', 'of an erased session nothing is kept');

select * from finish();
rollback;
