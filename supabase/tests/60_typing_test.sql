-- Who is typing.
begin;
\ir support/desk.psql
select plan(17);
select pg_temp.available('anna');
select pg_temp.act_as('carla');
select set_config('test.session', (select id::text from pg_temp.start_chat()), true);

-- the portal's upsert, as REST writes it
create function pg_temp.type() returns void
language sql
as $$
  insert into public.chat_typing_indicators (session_id, user_id, is_typing, updated_at)
  values (current_setting('test.session')::uuid, auth.uid(), true, '2001-01-01')
  on conflict (session_id, user_id) do update
  set session_id = excluded.session_id, user_id = excluded.user_id,
      is_typing = excluded.is_typing, updated_at = excluded.updated_at
$$;

select col_is_pk('public', 'chat_typing_indicators', array['session_id', 'user_id'], 'the key is session and user');
select lives_ok('select pg_temp.type()', 'typing');
select lives_ok('select pg_temp.type()', 'typing again');
select is(count(*), 1::bigint, 'one row') from public.chat_typing_indicators;
select cmp_ok(updated_at, '>=', now(), 'of now, whatever the client says') from public.chat_typing_indicators;

delete from public.chat_typing_indicators where session_id = current_setting('test.session')::uuid and user_id = auth.uid();
select is(is_typing, false, 'a delete only stops') from public.chat_typing_indicators;
select pg_temp.type();
select is(is_typing, true, 'and typing goes on') from public.chat_typing_indicators;

select pg_temp.say(current_setting('test.session')::uuid, 'done');
select is(is_typing, false, 'what was typed is sent') from public.chat_typing_indicators;

-- the other party, and nobody else
select pg_temp.type();
select pg_temp.act_as('anna');
select is(count(*), 1::bigint, 'the agent sees the customer type') from public.chat_typing_indicators;
update public.chat_typing_indicators set is_typing = false;
delete from public.chat_typing_indicators;
select is(is_typing, true, '... and does not stop him') from public.chat_typing_indicators;
select pg_temp.act_as('conrad');
select is_empty('select from public.chat_typing_indicators', 'a stranger sees nothing');
select throws_ok('select pg_temp.type()', '42501', null, 'a stranger types nowhere');
select throws_ok($$ insert into public.chat_typing_indicators (session_id, user_id)
  values (current_setting('test.session')::uuid, pg_temp.person('carla')) $$, '42501', null, 'nobody types for another');

-- stale
select pg_temp.act_as('nobody');
select is(chat.expire_typing(), 0::bigint, 'fresh typing stays');
update public.chat_typing_indicators set updated_at = clock_timestamp() - interval '31 seconds';
select is(chat.expire_typing(), 1::bigint, 'typing of half a minute ago is over');
select is(is_typing, false, '... and says so') from public.chat_typing_indicators;

delete from auth.users where id = pg_temp.person('carla');
select is_empty('select from public.chat_typing_indicators', 'a user''s deletion takes it along');

select * from finish();
rollback;
