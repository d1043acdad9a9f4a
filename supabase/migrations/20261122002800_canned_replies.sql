-- Canned replies: texts that agents send again and again.

create table public.chat_canned_replies (
  id uuid primary key default gen_random_uuid(),
  -- null: every tenant's
  tenant_id uuid references public.tenants (id) on delete cascade,
  -- null: every queue's
  queue_id uuid references public.chat_queues (id) on delete cascade,
  -- what an agent types to get it; small letters, so that a search by its beginning finds it by the index
  shortcut text not null,
  title text not null,
  -- {{customer_name}}, {{agent_name}}, {{session_number}} and {{queue}} are filled in
  body text not null,
  tags text[] not null default '{}',
  -- counted by the worker, some seconds later
  uses_count bigint not null default 0,
  last_used_at timestamptz,
  created_by uuid references auth.users (id) on delete set null,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint chat_canned_replies_shortcut_form check (shortcut ~ '^\S{1,50}$' and shortcut = lower(shortcut)),
  constraint chat_canned_replies_title_length check (char_length(title) between 1 and 255),
  constraint chat_canned_replies_body_length check (char_length(body) <= 4000),
  constraint chat_canned_replies_body_not_blank check (body ~ '\S'),
  constraint chat_canned_replies_tags_size check (pg_column_size(tags) <= 4096),
  constraint chat_canned_replies_one_per_shortcut unique nulls not distinct (tenant_id, queue_id, shortcut)
);

-- `shortcut=like.gre*`, as the agent types
create index chat_canned_replies_prefix on public.chat_canned_replies (shortcut text_pattern_ops);
create index chat_canned_replies_queue on public.chat_canned_replies (queue_id);
create index chat_canned_replies_author on public.chat_canned_replies (created_by);

-- Uses not counted yet. A use that counted on the reply's row would make agents wait for each other.
create table chat.canned_reply_uses (
  id bigint generated always as identity primary key,
  reply_id uuid not null references public.chat_canned_replies (id) on delete cascade,
  used_at timestamptz not null default clock_timestamp()
);

create index canned_reply_uses_reply on chat.canned_reply_uses (reply_id);

alter table public.chat_canned_replies enable row level security;
alter table chat.canned_reply_uses enable row level security;

-- Whose reply it is, where its writer does not say: his tenant's, or that of the queue it is for.
-- security definer: queues are asked whatever the writer may see of them.
create function chat.place_canned_reply()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  queue_tenant uuid := (select q.tenant_id from public.chat_queues as q where q.id = new.queue_id);
begin
  if tg_op = 'INSERT' then
    new.created_by := coalesce(auth.uid(), new.created_by);
    new.tenant_id := coalesce(new.tenant_id, case when not chat.leads_all_tenants() then chat.led_tenant() end);
  else
    new.created_by := case when new.created_by is not null then old.created_by end;
    new.updated_at := clock_timestamp();
  end if;
  new.tenant_id := coalesce(new.tenant_id, queue_tenant);
  if new.tenant_id <> queue_tenant then
    raise exception 'queue % belongs to another tenant', new.queue_id
      using errcode = 'check_violation', constraint = 'chat_canned_replies_queue_of_tenant';
  end if;
  return new;
end
$$;

create trigger chat_canned_replies_10_place
  before insert or update of tenant_id, queue_id, shortcut, title, body, tags, created_by
  on public.chat_canned_replies
  for each row
  execute function chat.place_canned_reply();

-- A template with its variables filled in, all at once: a name that looks like a variable stays a name. What is no
-- variable of ours stays as it is.
create function chat.fill_in(template text, variables jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select string_agg(coalesce(variables ->> substring(part[1] from '^\{\{\s*(\w+)\s*\}\}$'), part[1]), '' order by place)
  from regexp_matches(
    template,
    '\{\{\s*\w+\s*\}\}|(?:(?!\{\{\s*\w+\s*\}\}).)+',
    'g'
  ) with ordinality as parts (part, place)
$$;

-- The reply that a shortcut means in a session, filled in; null when there is none. Of several the narrowest: the
-- queue's before the tenant's before everybody's.
-- security definer: counts the use; asks for itself whether the caller serves this session.
create function public.chat_canned_reply(shortcut text, session_id uuid)
returns text
language plpgsql
security definer
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
  session public.chat_sessions;
  reply record;
begin
  select *
  into session
  from public.chat_sessions as s
  where s.id = chat_canned_reply.session_id
    and (
      -- no role: no request of the API
      coalesce(auth.role(), 'service_role') = 'service_role'
      or s.agent_id = caller
      or chat.leads(s.tenant_id)
    );
  if not found then
    raise exception 'there is no such session, or you do not serve it' using errcode = 'insufficient_privilege';
  end if;

  select r.id, r.body
  into reply
  from public.chat_canned_replies as r
  where r.shortcut = lower(chat_canned_reply.shortcut)
    and (r.tenant_id is null or r.tenant_id = session.tenant_id)
    and (r.queue_id is null or r.queue_id = session.queue_id)
  order by r.queue_id nulls last, r.tenant_id nulls last
  limit 1;
  if not found then
    return null;
  end if;

  insert into chat.canned_reply_uses (reply_id)
  values (reply.id);

  return chat.fill_in(reply.body, jsonb_build_object(
    'customer_name', session.customer_name,
    'agent_name', chat.agent_name(coalesce(caller, session.agent_id)),
    'session_number', session.session_number,
    'queue', coalesce((select q.name from public.chat_queues as q where q.id = session.queue_id), '')
  ));
end
$$;

-- Counts uses. One worker at a time, so that no two wait for each other's replies in a circle.
create function chat.count_canned_reply_uses()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  counted bigint;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('chat.canned_reply_uses', 0)) then
    return 0;
  end if;

  with taken as (
    delete from chat.canned_reply_uses as u
    where u.id = any (array(
      select next.id
      from chat.canned_reply_uses as next
      order by next.id
      limit 10000
      for update skip locked
    ))
    returning u.reply_id, u.used_at
  ), uses as (
    select taken.reply_id, count(*) as count, max(taken.used_at) as last_used_at
    from taken
    group by taken.reply_id
  ), written as (
    update public.chat_canned_replies as r
    set uses_count = r.uses_count + uses.count,
        last_used_at = greatest(r.last_used_at, uses.last_used_at)
    from uses
    where r.id = uses.reply_id
  )
  select count(*)
  into counted
  from taken;
  return counted;
end
$$;

revoke all on public.chat_canned_replies from anon, authenticated;
grant select, delete on public.chat_canned_replies to authenticated;
grant insert (id, tenant_id, queue_id, shortcut, title, body, tags),
  update (tenant_id, queue_id, shortcut, title, body, tags)
  on public.chat_canned_replies to authenticated;
grant all on public.chat_canned_replies, chat.canned_reply_uses to service_role;

create policy "Staff can read canned replies"
  on public.chat_canned_replies for select
  to authenticated
  using (
    (select chat.serves_all_tenants())
    or tenant_id = (select chat.served_tenant())
    or tenant_id is null and (select chat.is_staff())
  );

create policy "Leads can add canned replies"
  on public.chat_canned_replies for insert
  to authenticated
  with check ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

create policy "Leads can change canned replies"
  on public.chat_canned_replies for update
  to authenticated
  using ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()))
  with check ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

create policy "Leads can delete canned replies"
  on public.chat_canned_replies for delete
  to authenticated
  using ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

revoke execute on all functions in schema chat from public;
revoke execute on function public.chat_canned_reply(text, uuid) from public, anon;
grant execute on function public.chat_canned_reply(text, uuid) to authenticated, service_role;
