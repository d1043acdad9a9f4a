-- Files.
begin;
\ir support/desk.psql
select plan(17);
select is(public, true, 'the portal links files by their public address') from storage.buckets where id = 'chat-attachments';
select pg_temp.available('anna');
select pg_temp.act_as('carla');
select set_config('test.session', (select id::text from pg_temp.start_chat()), true);

create function pg_temp.upload(name text) returns void
language sql
as $$
  insert into storage.objects (bucket_id, name, metadata)
  values ('chat-attachments', name, '{"size": 1234, "mimetype": "image/png"}')
$$;

select lives_ok($$ select pg_temp.upload(current_setting('test.session') || '/1700000000000-my cat.png') $$, 'a customer uploads to his chat');
select is(count(*), 1::bigint, '... and sees the file') from storage.objects where bucket_id = 'chat-attachments';
select throws_ok($$ select pg_temp.upload('cat.png') $$, '42501', null, 'a file belongs to a chat');
select throws_ok($$ select pg_temp.upload('------------------------------------/cat.png') $$, '42501', null, '... that exists');
select throws_ok($$ select pg_temp.upload('00000000-0000-4000-8000-000000000000/cat.png') $$, '42501', null, '... truly');
select pg_temp.act_as('conrad');
select throws_ok($$ select pg_temp.upload(current_setting('test.session') || '/x.png') $$, '42501', null, 'a stranger uploads nothing');
select is_empty($$ select from storage.objects where bucket_id = 'chat-attachments' $$, '... and lists nothing');
select pg_temp.act_as('anna');
select lives_ok($$ select pg_temp.upload(current_setting('test.session') || '/1700000000001-bill.png') $$, 'an agent uploads to his chat');

-- messages about files
select pg_temp.act_as('carla');
create temporary table sent on commit drop as
select * from pg_temp.say(current_setting('test.session')::uuid,
  'https://x.example/storage/v1/object/public/chat-attachments/' || current_setting('test.session') || '/1700000000000-my%20cat.png');
select is(message_type::text, 'image', 'a file''s address makes a message of it') from sent;
select is(file_name::text, 'my cat.png', '... with its name') from sent;
select is(file_size, 1234::bigint, '... its size') from sent;
select is(file_type::text, 'image/png', '... and its kind') from sent;

insert into public.chat_messages (session_id, sender_type, message, message_type, file_url, file_name)
values (current_setting('test.session')::uuid, 'customer', 'free money', 'file', 'https://evil.example/x.exe', 'invoice.pdf');
select is(file_url, null, 'a file that is not ours is none') from public.chat_messages where message = 'free money';
select is(message_type::text, 'text', '... just words') from public.chat_messages where message = 'free money';
select lives_ok($$ select pg_temp.say(current_setting('test.session')::uuid, 'see /chat-attachments/%FF%00%zz') $$, 'a broken address is just words');

update public.chat_sessions set status = 'ended' where id = current_setting('test.session')::uuid;
select throws_ok($$ select pg_temp.upload(current_setting('test.session') || '/late.png') $$, '42501', null, 'a chat that is over takes no files');

select * from finish();
rollback;
