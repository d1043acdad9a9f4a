-- Files go with their session. Only the Storage API may remove a file: SQL would leave its bytes behind, and is refused.
-- So files are listed here, and the worker asks for their removal until they are gone.

create table chat.file_removals (
  id bigint generated always as identity primary key,
  bucket text not null,
  name text not null,
  requested_at timestamptz not null default clock_timestamp(),
  -- also the claim of the worker who is just trying
  next_try_at timestamptz not null default clock_timestamp(),
  attempts integer not null default 0,
  last_error text,
  constraint file_removals_once unique (bucket, name)
);

create index file_removals_due on chat.file_removals (next_try_at);
alter table chat.file_removals enable row level security;
grant all on chat.file_removals to service_role;

-- Lists a session's files for removal; returns how many.
create function chat.forget_files(session uuid)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  listed bigint;
begin
  insert into chat.file_removals (bucket, name)
  select o.bucket_id, o.name
  from unnest(array[session::text, upper(session::text)]) as folder
  join storage.objects as o
    on o.bucket_id = 'chat-attachments'
    -- in the order of storage's own index
    and o.name collate "C" >= folder || '/'
    and o.name collate "C" < folder || '0'
  on conflict (bucket, name) do nothing;
  get diagnostics listed = row_count;
  return listed;
end
$$;

-- security definer: who deletes a session has no right to the list.
create function chat.forget_files_of_deleted()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform chat.forget_files(old.id);
  return old;
end
$$;

create trigger chat_sessions_80_forget_files
  before delete on public.chat_sessions
  for each row
  execute function chat.forget_files_of_deleted();

-- A file that was on its way while its session was erased or deleted. The lock waits for whoever is just doing that.
-- security definer: the uploader has no right to the list.
create function chat.follow_upload()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform from public.chat_sessions as s
  where s.id = chat.session_of_file(new.name)
    and s.erased_at is null
  for key share;
  if not found and chat.session_of_file(new.name) is not null then
    insert into chat.file_removals (bucket, name)
    values (new.bucket_id, new.name)
    on conflict (bucket, name) do nothing;
  end if;
  return null;
end
$$;

create or replace trigger chat_follow_upload
  after insert or update of name on storage.objects
  for each row
  when (new.bucket_id = 'chat-attachments')
  execute function chat.follow_upload();

-- For the worker: some files to remove. Each is his until its next try is due, later and later up to six hours.
create function chat.claim_files(most integer)
returns table (id bigint, bucket text, name text)
language sql
set search_path = ''
as $$
  update chat.file_removals as f
  set attempts = f.attempts + 1,
      next_try_at = clock_timestamp() + least(interval '6 hours', interval '1 minute' * 2 ^ least(f.attempts, 9))
  where f.id = any(array(
    select due.id
    from chat.file_removals as due
    where due.next_try_at <= clock_timestamp()
    order by due.next_try_at
    limit most
    for update skip locked
  ))
  returning f.id, f.bucket, f.name
$$;

-- What came of it: files that are gone, by whomever, are done with. Returns how many.
create function chat.settle_files(files bigint[], error text default null)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  gone bigint;
begin
  delete from chat.file_removals as f
  where f.id = any (files)
    and not exists (select from storage.objects as o where o.bucket_id = f.bucket and o.name = f.name);
  get diagnostics gone = row_count;

  update chat.file_removals as f
  set last_error = left(coalesce(error, 'storage left it where it was'), 1000)
  where f.id = any (files);
  return gone;
end
$$;

revoke execute on all functions in schema chat from public;
