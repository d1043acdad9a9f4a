-- Files: the bucket, who may put what where, and the message that names a file.
--
-- The bucket is public, because the portal links its files by their public address. The first part of a file's name
-- is its session's id, which nobody else learns, and nobody but the session's participants may list.

insert into storage.buckets (id, name, public, file_size_limit, allowed_mime_types)
values (
  'chat-attachments',
  'chat-attachments',
  true,
  10485760,
  array[
    'image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/heic',
    'application/pdf', 'application/zip', 'application/json',
    'application/msword', 'application/vnd.openxmlformats-officedocument.wordprocessingml.document',
    'application/vnd.ms-excel', 'application/vnd.openxmlformats-officedocument.spreadsheetml.sheet',
    'text/plain', 'text/csv', 'audio/mpeg', 'audio/webm', 'video/mp4', 'video/webm'
  ]
)
on conflict (id) do nothing;

-- The session a file belongs to, by its name; null when the name does not begin with an id.
create function chat.session_of_file(name text)
returns uuid
language sql
immutable
begin atomic
  select case
    when name ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}/.' then split_part(name, '/', 1)::uuid
  end;
end;

drop policy if exists "Participants can upload files to their open chats" on storage.objects;
create policy "Participants can upload files to their open chats"
  on storage.objects for insert
  to authenticated
  with check (
    bucket_id = 'chat-attachments'
    and exists (
      select from public.chat_sessions as s
      where s.id = chat.session_of_file(objects.name)
        and s.status in ('waiting', 'active')
        and (s.customer_id = (select auth.uid()) or s.agent_id = (select auth.uid()))
    )
  );

drop policy if exists "Users can see the files of their chats" on storage.objects;
create policy "Users can see the files of their chats"
  on storage.objects for select
  to authenticated
  using (
    bucket_id = 'chat-attachments'
    and exists (select from public.chat_sessions as s where s.id = chat.session_of_file(objects.name))
  );

-- Decodes %xx; null when the result is no text.
create function chat.decode_url(encoded text)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
  return (
    select convert_from(
      string_agg(
        case
          when part[1] ~ '^%[0-9a-fA-F]{2}$' then decode(substr(part[1], 2), 'hex')
          else convert_to(part[1], 'UTF8')
        end,
        ''::bytea order by place
      ),
      'UTF8'
    )
    from regexp_matches(encoded, '%[0-9a-fA-F]{2}|[^%]+|%', 'g') with ordinality as parts (part, place)
  );
exception
  when character_not_in_repertoire or untranslatable_character then
    return null;
end
$$;

-- A message whose text or file_url is the address of a file of its session carries what storage knows of that file;
-- a caller's own account of one is dropped. security definer: storage is asked whatever the sender may list.
create function chat.attach_file()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  address text := coalesce(new.file_url, new.message);
  path text := chat.decode_url(substring(address from '/chat-attachments/([^?#\s]+)'));
  file record;
begin
  if chat.session_of_file(path) = new.session_id then
    select o.name, o.metadata
    into file
    from storage.objects as o
    where o.bucket_id = 'chat-attachments'
      and o.name = path;
  end if;

  if file is null then
    new.file_url := null;
    new.file_name := null;
    new.file_size := null;
    new.file_type := null;
    new.message_type := 'text';
    return new;
  end if;

  new.file_url := coalesce(new.file_url, substring(address from '\S*/chat-attachments/\S+'));
  -- the portal puts the time before the name
  new.file_name := left(regexp_replace(substr(file.name, 38), '^\d{13}-', ''), 500);
  new.file_size := (file.metadata ->> 'size')::bigint;
  new.file_type := left(file.metadata ->> 'mimetype', 100);
  new.message_type := case when new.file_type like 'image/%' then 'image' else 'file' end;
  return new;
end
$$;

create trigger chat_messages_30_attach_file
  before insert on public.chat_messages
  for each row
  when (
    new.sender_type <> 'system'
    and (
      new.file_url is not null
      or new.file_name is not null
      or new.message_type in ('file', 'image')
      or new.message like '%/chat-attachments/%'
    )
  )
  execute function chat.attach_file();

revoke execute on all functions in schema chat from public;
grant execute on function chat.session_of_file(text) to authenticated, service_role;
