-- Who is typing.
--
-- The primary key is (session_id, user_id): the portal's upsert names no conflict target and means this one, and the
-- old row of a delete says whose it was.
--
-- replaces sha256:e299ab7eb7f4bf9bf68e04b2404998409b092d2cfb0505180dfc63899a78be0e
-- (the same on a database without this table)

-- Adoption: see the files before. Of several rows of one person in one session the latest stays.

do $$
declare
  former record;
begin
  if to_regclass('public.chat_typing_indicators') is null then
    return;
  end if;

  for former in
    select c.conname
    from pg_constraint as c
    where c.conrelid = 'public.chat_typing_indicators'::regclass
      and c.contype in ('p', 'u')
  loop
    execute format('alter table public.chat_typing_indicators drop constraint %I', former.conname);
  end loop;

  update public.chat_typing_indicators as t
  set updated_at = now()
  where t.updated_at is null;
  delete from public.chat_typing_indicators as t
  where not exists (select from auth.users as u where u.id = t.user_id)
    or exists (
      select from public.chat_typing_indicators as later
      where later.session_id = t.session_id
        and later.user_id = t.user_id
        and (later.updated_at, later.ctid) > (t.updated_at, t.ctid)
    );
  alter table public.chat_typing_indicators
    alter id set default gen_random_uuid(),
    alter is_typing set default true,
    alter updated_at set default now(),
    add primary key (session_id, user_id),
    add unique (id),
    add foreign key (session_id) references public.chat_sessions (id) on delete cascade,
    add foreign key (user_id) references auth.users (id) on delete cascade,
    no force row level security,
    replica identity default,
    set (fillfactor = 50);
end
$$;

create table if not exists public.chat_typing_indicators (
  id uuid not null unique default gen_random_uuid(),
  session_id uuid not null references public.chat_sessions (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  is_typing boolean default true,
  updated_at timestamptz default now(),

  primary key (session_id, user_id)
) with (fillfactor = 50);

create index if not exists idx_chat_typing_indicators_session on public.chat_typing_indicators (session_id);
-- not on updated_at, which would cost an index entry a keystroke: few rows are in here at a time
create index if not exists idx_chat_typing_indicators_typing on public.chat_typing_indicators (session_id)
  where is_typing;

alter table public.chat_typing_indicators enable row level security;

create function chat.reduce_typing()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if row_security_active('public.chat_typing_indicators') then
    new.updated_at := clock_timestamp();
    if tg_op = 'UPDATE' then
      new.id := old.id;
      new.session_id := old.session_id;
      new.user_id := old.user_id;
    end if;
  end if;
  return new;
end
$$;

create trigger chat_typing_10_reduce
  before insert or update on public.chat_typing_indicators
  for each row
  execute function chat.reduce_typing();

-- A client's delete becomes an update, because stock Realtime shows deletes to every subscriber, whatever his
-- rights, and an update only to those who may see the row. Cascades run as the table's owner and do delete.
create function chat.stop_typing()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not row_security_active('public.chat_typing_indicators') then
    return old;
  end if;
  update public.chat_typing_indicators as t
  set is_typing = false
  where t.session_id = old.session_id
    and t.user_id = old.user_id
    and t.is_typing;
  return null;
end
$$;

create trigger chat_typing_20_stop
  before delete on public.chat_typing_indicators
  for each row
  execute function chat.stop_typing();

revoke execute on all functions in schema chat from public;
