-- Schema storage: buckets and objects. Rows say what exists and who may touch it; bytes lie elsewhere.

set local role supabase_storage_admin;

do $$
begin
  if to_regtype('storage.buckettype') is null then
    create type storage.buckettype as enum ('STANDARD', 'ANALYTICS', 'VECTOR');
  end if;
end
$$;

create table if not exists storage.migrations (
  id integer primary key,
  name varchar(100) unique not null,
  hash varchar(40) not null,
  executed_at timestamp default now()
);

create table if not exists storage.buckets (
  id text primary key,
  name text not null,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  public boolean default false,
  avif_autodetection boolean default false,
  file_size_limit bigint,
  allowed_mime_types text[],
  owner_id text,
  type storage.buckettype not null default 'STANDARD',
  versioning_status text not null default 'DISABLED',
  constraint bname unique (name)
);

create table if not exists storage.objects (
  id uuid primary key default gen_random_uuid(),
  bucket_id text references storage.buckets,
  name text,
  owner uuid,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  last_accessed_at timestamptz default now(),
  metadata jsonb,
  path_tokens text[] generated always as (string_to_array(name, '/')) stored,
  version text,
  owner_id text,
  user_metadata jsonb,
  archived_at timestamptz,
  is_delete_marker boolean not null default false,
  is_versioned boolean not null default false
);

create unique index if not exists bucketid_objname on storage.objects (bucket_id, name);
create index if not exists name_prefix_search on storage.objects (name text_pattern_ops);
create index if not exists idx_objects_bucket_id_name on storage.objects (bucket_id, name collate "C");

alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
alter table storage.migrations enable row level security;

grant all on storage.buckets, storage.objects to anon, authenticated, service_role;
grant all on storage.buckets, storage.objects to postgres with grant option;

-- What policies are written with.

create or replace function storage.foldername(name text)
returns text[]
language sql
immutable
return (string_to_array(name, '/'))[1:array_length(string_to_array(name, '/'), 1) - 1];

create or replace function storage.filename(name text)
returns text
language sql
immutable
return (string_to_array(name, '/'))[array_length(string_to_array(name, '/'), 1)];

create or replace function storage.extension(name text)
returns text
language sql
immutable
return reverse(split_part(reverse(storage.filename(name)), '.', 1));

create or replace function storage.operation()
returns text
language sql
stable
return current_setting('storage.operation', true);

create or replace function storage.allow_only_operation(expected_operation text)
returns boolean
language sql
stable
return coalesce(storage.operation() = expected_operation, false);

create or replace function storage.allow_any_operation(expected_operations text[])
returns boolean
language sql
stable
return coalesce(storage.operation() = any (expected_operations), false);

create or replace function storage.update_updated_at_column()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := now();
  return new;
end
$$;

create or replace trigger update_objects_updated_at
before update on storage.objects
for each row
execute function storage.update_updated_at_column();

create or replace function storage.enforce_bucket_name_length()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if length(new.name) > 100 then
    raise exception 'bucket name "%" is too long (% characters). Max is 100.', new.name, length(new.name);
  end if;
  return new;
end
$$;

create or replace trigger enforce_bucket_name_length_trigger
before insert or update of name on storage.buckets
for each row
execute function storage.enforce_bucket_name_length();

-- A row deleted by SQL would leave its bytes behind.
create or replace function storage.protect_delete()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if coalesce(current_setting('storage.allow_delete_query', true), 'false') <> 'true' then
    raise exception 'Direct deletion from storage tables is not allowed. Use the Storage API instead.'
      using errcode = '42501';
  end if;
  return null;
end
$$;

create or replace trigger protect_buckets_delete
before delete on storage.buckets
for each statement
execute function storage.protect_delete();

create or replace trigger protect_objects_delete
before delete on storage.objects
for each statement
execute function storage.protect_delete();

-- Every blob has a row here or one in storage.objects, so none is forgotten: an upload announces its blob here
-- before it writes the first byte, and whatever ends a row, API or SQL, announces the blob the row leaves behind.
create table if not exists storage.blobs_to_delete (
  version text primary key,
  due timestamptz not null default now()
);

create index if not exists blobs_to_delete_due on storage.blobs_to_delete (due);

alter table storage.blobs_to_delete enable row level security;

-- security definer: callers may change objects, never say which blobs are deleted.
create or replace function storage.follow_blob()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  if tg_op <> 'INSERT' and old.version is not null then
    insert into storage.blobs_to_delete (version)
    values (old.version)
    on conflict (version) do update
    set due = excluded.due;
  end if;
  if tg_op <> 'DELETE' and new.version is not null then
    delete from storage.blobs_to_delete
    where version = new.version;
  end if;
  return null;
end
$$;

create or replace trigger follow_blob
after insert or delete or update of version on storage.objects
for each row
execute function storage.follow_blob();

-- One level of a bucket: files and folders right below a prefix. The prefix is compared by case, because only that
-- comparison may use an index before row level security has had its say; the search term is not.
create or replace function storage.search(
  prefix text,
  bucketname text,
  limits integer default 100,
  levels integer default 1,
  offsets integer default 0,
  search text default '',
  sortcolumn text default 'name',
  sortorder text default 'asc'
)
returns table (
  name text,
  id uuid,
  updated_at timestamptz,
  created_at timestamptz,
  last_accessed_at timestamptz,
  metadata jsonb
)
language sql
stable
begin atomic
  with below as (
    select o.*, substr(o.name, length(prefix) + 1) as rest
    from storage.objects o
    where o.bucket_id = bucketname
      and o.name collate "C" >= prefix
      and o.name collate "C" < prefix || chr(1114111)
  ), entry as (
    select rest as name, id, updated_at, created_at, last_accessed_at, metadata
    from below
    where position('/' in rest) = 0
    union all
    select distinct split_part(rest, '/', 1), null::uuid, null::timestamptz, null::timestamptz, null::timestamptz, null::jsonb
    from below
    where position('/' in rest) > 0
  )
  select entry.name, entry.id, entry.updated_at, entry.created_at, entry.last_accessed_at, entry.metadata
  from entry
  where starts_with(lower(entry.name), lower(search))
  order by
    -- folders have no times; among files sorted by time they come first
    case when sortcolumn <> 'name' then entry.id is null end desc,
    case
      when sortorder = 'desc' then null
      when sortcolumn = 'updated_at' then entry.updated_at
      when sortcolumn = 'created_at' then entry.created_at
      when sortcolumn = 'last_accessed_at' then entry.last_accessed_at
    end,
    case
      when sortorder <> 'desc' then null
      when sortcolumn = 'updated_at' then entry.updated_at
      when sortcolumn = 'created_at' then entry.created_at
      when sortcolumn = 'last_accessed_at' then entry.last_accessed_at
    end desc,
    case when sortorder = 'desc' then null else entry.name end collate "C",
    entry.name collate "C" desc
  limit least(limits, 1500)
  offset offsets;
end;

create or replace function storage.get_size_by_bucket()
returns table (size bigint, bucket_id text)
language sql
stable
begin atomic
  select sum((o.metadata ->> 'size')::bigint)::bigint, o.bucket_id
  from storage.objects o
  group by o.bucket_id;
end;

reset role;
