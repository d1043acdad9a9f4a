-- Limits on what is written, not on what is there: a check refuses every later update of a row that an earlier schema
-- let be longer, so that its session could not be written to, and it could not be marked as read.

create function chat.refuse()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if tg_op = 'UPDATE' and to_jsonb(new) -> tg_argv[0] = to_jsonb(old) -> tg_argv[0] then
    return new;
  end if;
  -- in a check's words, which clients know
  raise exception 'new row for relation "%" violates check constraint "%"', tg_table_name, tg_name
    using errcode = 'check_violation', schema = tg_table_schema, table = tg_table_name, constraint = tg_name;
end
$$;

alter table public.chat_sessions
  drop constraint if exists chat_sessions_page_url_length,
  drop constraint if exists chat_sessions_metadata_size;

create trigger chat_sessions_page_url_length
  before insert or update on public.chat_sessions
  for each row
  when (char_length(new.page_url) > 4000)
  execute function chat.refuse('page_url');

create trigger chat_sessions_metadata_size
  before insert or update on public.chat_sessions
  for each row
  when (pg_column_size(new.metadata) > 16384)
  execute function chat.refuse('metadata');

alter table public.chat_messages
  drop constraint if exists chat_messages_length,
  drop constraint if exists chat_messages_not_blank,
  drop constraint if exists chat_messages_file_url_length,
  drop constraint if exists chat_messages_metadata_size;

-- realtime drops the text of a change of more than a megabyte
create trigger chat_messages_length
  before insert or update on public.chat_messages
  for each row
  when (char_length(new.message) > 4000)
  execute function chat.refuse('message');

create trigger chat_messages_not_blank
  before insert or update on public.chat_messages
  for each row
  when (new.message !~ '\S')
  execute function chat.refuse('message');

create trigger chat_messages_file_url_length
  before insert or update on public.chat_messages
  for each row
  when (char_length(new.file_url) > 4000)
  execute function chat.refuse('file_url');

create trigger chat_messages_metadata_size
  before insert or update on public.chat_messages
  for each row
  when (pg_column_size(new.metadata) > 16384)
  execute function chat.refuse('metadata');

revoke execute on all functions in schema chat from public;
