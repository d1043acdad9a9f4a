-- Erasure: what tells of a person goes, what reports are made of stays.
--
-- An erased session keeps its numbers: times, counts, rating, metrics, agents, queue. Its customer, his words, his
-- files and whatever else could name him are gone, for good: a trigger keeps the row so.

alter table public.chat_sessions
  add column erased_at timestamptz;

-- Sessions that must be kept as they are. The foreign key has no cascade: nobody deletes one either.
create table chat.holds (
  session_id uuid primary key references public.chat_sessions (id),
  held_at timestamptz not null default clock_timestamp(),
  held_by uuid,
  reason text not null check (char_length(reason) between 1 and 1000)
);

-- Who erased how much, and why; nothing about whom. Only ever added to. An erasure that touched several tenants has an
-- entry for each.
create table chat.erasures (
  id bigint generated always as identity primary key,
  erased_at timestamptz not null default clock_timestamp(),
  kind text not null check (kind in (
    'customer',   -- somebody's whole history, asked for
    'session',    -- one session, asked for
    'account',    -- the account was deleted
    'retention',  -- kept long enough: erased
    'deletion'    -- kept long enough: deleted
  )),
  actor_id uuid,
  tenant_id uuid,
  reason text check (char_length(reason) <= 1000),
  sessions bigint not null,
  messages bigint not null,
  files bigint not null
);

create index erasures_tenant on chat.erasures (tenant_id, id);

-- Sessions of deleted accounts. No foreign key: a deletion waits for nobody who works on a session.
create table chat.due_erasures (
  session_id uuid primary key,
  due_since timestamptz not null default clock_timestamp()
);

alter table chat.settings
  -- whether the deletion of an account erases its sessions
  add column erase_with_account boolean not null default true;

alter table chat.holds enable row level security;
alter table chat.erasures enable row level security;
alter table chat.due_erasures enable row level security;

-- Whatever an update says, an erased row says nothing about anybody, and stays closed. After
-- chat_sessions_20_settle_update, which would keep an old comment.
create function chat.stay_erased()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if old.erased_at is not null then
    -- a policy let this message pass because it did not see yet what was erased meanwhile
    if new.messages_count > old.messages_count then
      raise exception 'session % was erased', old.id using errcode = 'insufficient_privilege';
    end if;
    new.erased_at := old.erased_at;
    new.status := old.status;
    new.ended_at := old.ended_at;
    new.chat_duration_seconds := old.chat_duration_seconds;
  end if;
  new.customer_id := null;
  new.customer_name := 'Erased';
  new.customer_email := '';
  new.feedback_comment := null;
  new.feedback_submitted_at := old.feedback_submitted_at;
  new.page_url := null;
  new.user_agent := null;
  new.ip_address := null;
  new.tags := null;
  new.metadata := null;
  return new;
end
$$;

create trigger chat_sessions_25_stay_erased
  before update on public.chat_sessions
  for each row
  when (old.erased_at is not null or new.erased_at is not null)
  execute function chat.stay_erased();

-- Erases one session whose row the caller has locked for update, and returns how much that was; `erased` is null when
-- there was nothing to do.
create function chat.erase(
  session public.chat_sessions, kind text, out erased uuid, out messages bigint, out files bigint
)
language plpgsql
set search_path = ''
as $$
declare
  changed bigint;
begin
  if session.id is null or session.erased_at is not null then
    return;
  end if;
  if exists (select from chat.holds as h where h.session_id = session.id) then
    raise exception 'session % is on hold', session.id
      using errcode = 'check_violation', hint = 'chat_release lets it go.';
  end if;

  update public.chat_sessions as s
  set status = case when s.agent_joined_at is null then 'abandoned' else 'ended' end
  where s.id = session.id
    and chat.is_open(s.status);

  files := chat.forget_files(session.id);

  -- system notices too: some name a person
  update public.chat_messages as m
  set message = '[erased]',
      message_type = case m.message_type when 'system' then 'system' else 'text' end,
      sender_id = case m.sender_type when 'customer' then null else m.sender_id end,
      file_url = null,
      file_name = null,
      file_size = null,
      file_type = null,
      metadata = null
  where m.session_id = session.id;
  get diagnostics messages = row_count;

  delete from public.chat_typing_indicators as t where t.session_id = session.id;
  delete from chat.handovers as h where h.session_id = session.id;
  update chat.queue as q
  set customer_id = null
  where q.session_id = session.id;
  update chat.events as e
  set details = e.details - 'comment',
      actor_id = case e.actor when 'customer' then null else e.actor_id end
  where e.session_id = session.id
    and (e.actor = 'customer' or e.details ? 'comment');

  update public.chat_sessions as s
  set erased_at = clock_timestamp()
  where s.id = session.id
  returning s.* into session;
  perform chat.record(
    session, 'erased', details => jsonb_build_object('kind', kind, 'messages', messages, 'files', files)
  );
  -- a desk may do without transcripts
  if to_regclass('public.chat_transcripts') is not null then
    execute 'delete from public.chat_transcripts where session_id = $1' using session.id;
  end if;
  delete from chat.due_erasures as d where d.session_id = session.id;
  erased := session.id;
end
$$;

-- Locks a session for a lead of its tenant or the service. Others learn nothing about it. For update, not less: an
-- upload waits, and then sees what became of its session.
create function chat.lock_led_session(session uuid)
returns public.chat_sessions
language plpgsql
set search_path = ''
as $$
declare
  led public.chat_sessions;
begin
  select *
  into led
  from public.chat_sessions as s
  where s.id = session
  for update;
  if not found or auth.uid() is not null and not chat.leads(led.tenant_id) then
    raise exception 'session % is not yours to keep or to erase', session
      using errcode = 'insufficient_privilege', hint = 'Who leads its tenant may.';
  end if;
  return led;
end
$$;

-- For clients: supabase.rpc('chat_erase_session', { session_id, reason }) and so on. The answer says how much was
-- erased; asked again, nothing is left to erase, and that is no error.
-- security definer, as all below: each asks for itself whether the caller may.

create function public.chat_erase_session(session_id uuid, reason text default null)
returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  session public.chat_sessions := chat.lock_led_session(chat_erase_session.session_id);
  done record;
begin
  select * into done from chat.erase(session, 'session');
  insert into chat.erasures (kind, actor_id, tenant_id, reason, sessions, messages, files)
  select 'session', auth.uid(), session.tenant_id, chat_erase_session.reason, 1, done.messages, done.files
  where done.erased is not null;
  return jsonb_build_object(
    'sessions', (done.erased is not null)::integer,
    'messages', coalesce(done.messages, 0),
    'files', coalesce(done.files, 0)
  );
end
$$;

-- Locks all sessions of a customer that are not erased yet, in the given tenant or, without one, in all.
--
-- All at once or none: who held some and waited for others would wait in a circle with the customer's own late
-- messages, which lock their session, then the customer, then his open session. So whoever is in the way is waited for
-- with empty hands. A start that got ahead of us has carried messages over to its new session: hence the second look.
create function chat.lock_sessions_of(customer uuid, tenant uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  busy uuid;
  locked bigint;
  before bigint;
begin
  for attempt in 1..100 loop
    begin
      before := -1;
      loop
        select count(*)
        into locked
        from (
          select
          from public.chat_sessions as s
          where s.customer_id = customer
            and (tenant is null or s.tenant_id = tenant)
            and s.erased_at is null
          for update nowait
        ) as own;
        if locked = before then
          return;
        end if;
        before := locked;
      end loop;
    exception
      when lock_not_available then null;
    end;

    for busy in
      select s.id
      from public.chat_sessions as s
      where s.customer_id = customer
        and s.erased_at is null
    loop
      begin
        perform from public.chat_sessions as s where s.id = busy for update;
        raise exception 'only waited' using errcode = 'CHAT1';
      exception
        when sqlstate 'CHAT1' then null;  -- the lock goes with this block
      end;
    end loop;
  end loop;
  raise exception 'customer % never stops writing', customer
    using errcode = 'lock_not_available', hint = 'Ask again.';
end
$$;

-- Everything a customer left: for a lead of one tenant, with that tenant; for the service and leads of all, anywhere.
create function public.chat_erase_customer(customer_id uuid, reason text default null)
returns jsonb
language plpgsql
security definer
set search_path = ''
as $$
declare
  tenant uuid := case when auth.uid() is not null and not chat.leads_all_tenants() then chat.led_tenant() end;
  session public.chat_sessions;
  done record;
  report chat.erasures[] := '{}';
begin
  if auth.uid() is not null and tenant is null and not chat.leads_all_tenants() then
    raise exception 'you may erase nobody' using errcode = 'insufficient_privilege', hint = 'Leads may.';
  end if;

  perform chat.lock_sessions_of(chat_erase_customer.customer_id, tenant);
  for session in
    select s.*
    from public.chat_sessions as s
    where s.customer_id = chat_erase_customer.customer_id
      and (tenant is null or s.tenant_id = tenant)
      and s.erased_at is null
    -- the end of an open one waits for the queue
    order by chat.is_open(s.status), s.id
  loop
    select * into done from chat.erase(session, 'customer');
    report := report
      || row(0, null, 'customer', null, session.tenant_id, null, 1, done.messages, done.files)::chat.erasures;
  end loop;

  insert into chat.erasures (kind, actor_id, tenant_id, reason, sessions, messages, files)
  select 'customer', auth.uid(), r.tenant_id, chat_erase_customer.reason, sum(r.sessions), sum(r.messages), sum(r.files)
  from unnest(report) as r
  group by r.tenant_id;
  return (
    select jsonb_build_object(
      'sessions', coalesce(sum(r.sessions), 0),
      'messages', coalesce(sum(r.messages), 0),
      'files', coalesce(sum(r.files), 0)
    )
    from unnest(report) as r
  );
end
$$;

-- Keeps a session from being erased or deleted, by whomever.
create function public.chat_hold(session_id uuid, reason text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  session public.chat_sessions := chat.lock_led_session(chat_hold.session_id);
begin
  if session.erased_at is not null then
    raise exception 'session % was erased', session.id using errcode = 'check_violation';
  end if;
  insert into chat.holds (session_id, held_by, reason)
  values (session.id, auth.uid(), chat_hold.reason)
  on conflict on constraint holds_pkey do nothing;
end
$$;

create function public.chat_release(session_id uuid)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  session public.chat_sessions := chat.lock_led_session(chat_release.session_id);
begin
  delete from chat.holds as h where h.session_id = session.id;
end
$$;

-- Accounts. The deletion only leaves a note; the worker does the rest.
-- security definer: whoever deletes accounts has no right to the chat.
create function chat.follow_deletion()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into chat.due_erasures (session_id)
  select s.id
  from public.chat_sessions as s
  where s.customer_id = old.id
    and s.erased_at is null
    and (select c.erase_with_account from chat.settings as c)
  on conflict (session_id) do nothing;
  return case tg_op when 'DELETE' then old else new end;
end
$$;

-- before, because the foreign key then forgets whose the sessions were
create or replace trigger chat_follow_deletion
  before delete on auth.users
  for each row
  execute function chat.follow_deletion();

-- an account that the auth server keeps as a deleted one
create or replace trigger chat_follow_soft_deletion
  before update of deleted_at on auth.users
  for each row
  when (old.deleted_at is null and new.deleted_at is not null)
  execute function chat.follow_deletion();

-- Erases one session of a deleted account; null when there is none. Those on hold wait until they are let go.
create function chat.erase_due()
returns uuid
language plpgsql
set search_path = ''
as $$
declare
  due uuid;
  session public.chat_sessions;
  done record;
begin
  select d.session_id
  into due
  from chat.due_erasures as d
  where not exists (select from chat.holds as h where h.session_id = d.session_id)
  order by d.due_since
  limit 1
  for update of d skip locked;
  if due is null then
    return null;
  end if;

  select * into session from public.chat_sessions as s where s.id = due for update;
  -- put on hold while we waited
  if exists (select from chat.holds as h where h.session_id = due) then
    return null;
  end if;
  select * into done from chat.erase(session, 'account');
  insert into chat.erasures (kind, tenant_id, reason, sessions, messages, files)
  select 'account', session.tenant_id, 'the account was deleted', 1, done.messages, done.files
  where done.erased is not null;
  delete from chat.due_erasures as d where d.session_id = due;
  return due;
end
$$;

-- Leads read what was erased in their tenant, and what is on hold.
grant select on chat.erasures, chat.holds to authenticated;
grant all on chat.holds, chat.erasures, chat.due_erasures to service_role;

create policy "Leads see what was erased"
  on chat.erasures for select
  to authenticated
  using ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

create policy "Leads see what is on hold"
  on chat.holds for select
  to authenticated
  using (
    (select chat.leads_all_tenants())
    or (select chat.is_lead()) and exists (
      select from public.chat_sessions as s
      where s.id = holds.session_id
        and s.tenant_id = (select chat.led_tenant())
    )
  );

create view public.chat_erasures
with (security_invoker = true)
as
select e.id, e.erased_at, e.kind, e.actor_id, e.tenant_id, e.reason, e.sessions, e.messages, e.files
from chat.erasures as e;

create view public.chat_holds
with (security_invoker = true)
as
select h.session_id, h.held_at, h.held_by, h.reason
from chat.holds as h;

revoke all on public.chat_erasures, public.chat_holds from anon, authenticated, service_role;
grant select on public.chat_erasures, public.chat_holds to authenticated, service_role;

revoke execute on all functions in schema chat from public;
revoke execute on function
  public.chat_erase_session(uuid, text), public.chat_erase_customer(uuid, text), public.chat_hold(uuid, text),
  public.chat_release(uuid)
from public, anon;
grant execute on function
  public.chat_erase_session(uuid, text), public.chat_erase_customer(uuid, text), public.chat_hold(uuid, text),
  public.chat_release(uuid)
to authenticated, service_role;
