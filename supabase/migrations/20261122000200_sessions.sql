-- Sessions: the table, its numbers, and what each kind of caller may say about one.
--
-- replaces sha256:c788c6f21196f0566a3c0470e04f5bafb9a1b852459820772afe4ef7d2b4db92
-- (the same on a database without these tables; it could not adopt the specification's)

create sequence if not exists public.chat_session_number_seq start 1;

-- Adoption: where the specification's own SQL was run before us, its three tables are brought in place to the shape
-- that this file and the next two give them. Rows stay, and so do the portal's own columns, foreign keys, views and
-- triggers. Policies go, all of them: what somebody once allowed by hand would be or-ed with ours. Limits on what is
-- there already would refuse its next update: later on, they are asked of what is new. Seats and places in line follow
-- when there are tables for them.

do $$
declare
  strangers text;
  remedy text;
  step record;
begin
  if to_regclass('public.chat_sessions') is null then
    return;
  end if;
  if to_regclass('public.chat_messages') is null or to_regclass('public.chat_typing_indicators') is null then
    raise exception 'there is a table public.chat_sessions, but not both chat_messages and chat_typing_indicators'
      using hint = 'Run the rest of the specification''s SQL, or rename the table if it is for something else.';
  end if;

  select
    string_agg(format('%s of %s', thing.name, pg_get_userbyid(thing.owner)), ', '),
    string_agg(format('alter %s %s owner to %I;', thing.kind, thing.name, current_user), ' ')
  into strangers, remedy
  from (
    select
      case c.relkind when 'S' then 'sequence' else 'table' end as kind,
      format('public.%I', c.relname) as name,
      c.relowner as owner
    from pg_class as c
    where c.oid in (
      'public.chat_sessions'::regclass, 'public.chat_messages'::regclass, 'public.chat_typing_indicators'::regclass,
      'public.chat_session_number_seq'::regclass
    )
    union all
    select 'function', format('public.%I()', p.proname), p.proowner
    from pg_proc as p
    where p.oid in (
      to_regprocedure('public.generate_chat_session_number()'),
      to_regprocedure('public.update_chat_session_message_count()')
    )
  ) as thing
  where pg_get_userbyid(thing.owner) <> current_user;
  if strangers is not null then
    raise exception 'the chat''s tables must belong to %; it found %', current_user, strangers
      using hint = 'Migrate as the role they belong to. Or, as their owner or a superuser: ' || remedy
        || ' Then migrate again.';
  end if;

  -- The shape.

  for step in
    select format('drop policy %I on public.%I', p.policyname, p.tablename) as command
    from pg_policies as p
    where p.schemaname = 'public'
      and p.tablename in ('chat_sessions', 'chat_messages', 'chat_typing_indicators')
    union all
    -- columns left out, or of another type; a text that does not fit is an error, never cut
    select format(
      case
        when a.attname is null then 'alter table public.%I add %I %s'
        else 'alter table public.%I alter %I type %s'
      end,
      shape.name, split_part(wanted, ' ', 1), substr(wanted, strpos(wanted, ' ') + 1)
    )
    from (values
      (
        'chat_sessions',
        'id uuid, session_number character varying(20), tenant_id uuid, customer_id uuid, '
        'customer_name character varying(255), customer_email character varying(255), agent_id uuid, '
        'status character varying(20), queue_position integer, started_at timestamp with time zone, '
        'agent_joined_at timestamp with time zone, ended_at timestamp with time zone, wait_time_seconds integer, '
        'chat_duration_seconds integer, messages_count integer, rating integer, feedback_comment text, '
        'feedback_submitted_at timestamp with time zone, page_url text, user_agent text, ip_address inet, '
        'tags text[], metadata jsonb, created_at timestamp with time zone, updated_at timestamp with time zone'
      ),
      (
        'chat_messages',
        'id uuid, session_id uuid, sender_id uuid, sender_type character varying(20), message text, '
        'message_type character varying(20), file_url text, file_name character varying(500), file_size bigint, '
        'file_type character varying(100), is_read boolean, read_at timestamp with time zone, metadata jsonb, '
        'created_at timestamp with time zone, seq bigint'
      ),
      (
        'chat_typing_indicators',
        'id uuid, session_id uuid, user_id uuid, is_typing boolean, updated_at timestamp with time zone'
      )
    ) as shape (name, columns)
    cross join unnest(string_to_array(shape.columns, ', ')) as wanted
    left join pg_attribute as a
      on a.attrelid = format('public.%I', shape.name)::regclass
      and a.attname = split_part(wanted, ' ', 1)
      and not a.attisdropped
    where format('%s %s', a.attname, format_type(a.atttypid, a.atttypmod)) <> wanted
    union all
    -- foreign keys that say nothing of deletions
    select format('alter table %s drop constraint %I', c.conrelid::regclass, c.conname)
    from pg_constraint as c
    where c.conrelid in (
        'public.chat_sessions'::regclass, 'public.chat_messages'::regclass, 'public.chat_typing_indicators'::regclass
      )
      and c.contype = 'f'
      and c.confrelid in ('auth.users'::regclass, 'public.tenants'::regclass, 'public.chat_sessions'::regclass)
      and array(
        select a.attname::text
        from pg_attribute as a
        where a.attrelid = c.conrelid
          and a.attnum = any (c.conkey)
      ) <@ array['customer_id', 'agent_id', 'sender_id', 'user_id', 'session_id', 'tenant_id']
  loop
    execute step.command;
  end loop;

  drop trigger if exists generate_chat_session_number_trigger on public.chat_sessions;
  revoke all on public.chat_sessions, public.chat_messages, public.chat_typing_indicators from public;
  revoke all on sequence public.chat_session_number_seq from public;

  -- accounts that are gone, which only a dropped foreign key lets happen
  update public.chat_sessions as s
  set customer_id = (select u.id from auth.users as u where u.id = s.customer_id),
      agent_id = (select u.id from auth.users as u where u.id = s.agent_id)
  where not exists (select from auth.users as u where u.id = s.customer_id) and s.customer_id is not null
    or not exists (select from auth.users as u where u.id = s.agent_id) and s.agent_id is not null;
  alter table public.chat_sessions
    alter id set default gen_random_uuid(),
    alter status set default 'waiting',
    alter started_at set default now(),
    alter messages_count set default 0,
    alter created_at set default now(),
    alter updated_at set default now(),
    alter tenant_id drop not null,
    alter tenant_id drop default,
    alter customer_id drop not null,
    alter customer_id drop default,
    alter agent_id drop not null,
    alter agent_id drop default,
    drop constraint if exists valid_status,
    drop constraint if exists chat_sessions_rating_check,
    add constraint valid_status check (status in ('waiting', 'active', 'ended', 'abandoned', 'transferred')),
    add constraint chat_sessions_rating_check check (rating >= 1 and rating <= 5),
    add foreign key (tenant_id) references public.tenants (id),
    add foreign key (customer_id) references auth.users (id) on delete set null,
    add foreign key (agent_id) references auth.users (id) on delete set null,
    no force row level security,
    set (fillfactor = 80);

end
$$;

create table if not exists public.chat_sessions (
  id uuid primary key default gen_random_uuid(),
  session_number varchar(20) unique not null,

  -- participants
  tenant_id uuid references public.tenants (id),
  customer_id uuid references auth.users (id) on delete set null,
  customer_name varchar(255) not null,
  customer_email varchar(255) not null,
  agent_id uuid references auth.users (id) on delete set null,

  -- state: waiting and active are open, the others are closed
  status varchar(20) not null default 'waiting',
  queue_position integer,

  -- times, all the server's
  started_at timestamptz default now(),
  agent_joined_at timestamptz,
  ended_at timestamptz,

  -- metrics, all the server's
  wait_time_seconds integer,
  chat_duration_seconds integer,
  messages_count integer default 0,

  -- rating
  rating integer check (rating >= 1 and rating <= 5),
  feedback_comment text,
  feedback_submitted_at timestamptz,

  -- context
  page_url text,
  user_agent text,
  ip_address inet,

  -- metadata
  tags text[],
  metadata jsonb,

  created_at timestamptz default now(),
  updated_at timestamptz default now(),

  constraint valid_status check (status in ('waiting', 'active', 'ended', 'abandoned', 'transferred')),
  constraint chat_sessions_page_url_length check (char_length(page_url) <= 4000),
  constraint chat_sessions_metadata_size check (pg_column_size(metadata) <= 16384)
) with (fillfactor = 80);  -- each message counts on its session's row: room for an update in place

create index if not exists idx_chat_sessions_customer on public.chat_sessions (customer_id);
create index if not exists idx_chat_sessions_agent on public.chat_sessions (agent_id);
create index if not exists idx_chat_sessions_status on public.chat_sessions (status);
create index if not exists idx_chat_sessions_tenant on public.chat_sessions (tenant_id);
create index if not exists idx_chat_sessions_created on public.chat_sessions (created_at desc);

-- Adoption, continued: the rows. Texts stay as they are, whatever their length.

do $$
declare
  -- before it no portal of this kind was; a time of a client's clock that is not between the two is not believed
  earliest constant timestamptz := now() - interval '30 years';
  latest constant timestamptz := now();
begin
  if to_regclass('public.chat_messages') is null then
    return;
  end if;

  -- Numbers: each once, and none given out before is given out again. A caller could once choose his own: what the
  -- column has no room to count on from is passed over.
  perform setval('public.chat_session_number_seq', highest.number)
  from public.chat_session_number_seq as q
  cross join (
    select max(substring(s.session_number from '^CHAT-([0-9]{8,12})$')::bigint) as number
    from public.chat_sessions as s
  ) as highest
  where highest.number >= q.last_value;
  if not exists (
    select from pg_constraint as c
    where c.conrelid = 'public.chat_sessions'::regclass and c.conname = 'chat_sessions_session_number_key'
  ) then
    -- the eldest keeps it, the others keep a note of it
    update public.chat_sessions as s
    set session_number = 'CHAT-' || to_char(nextval('public.chat_session_number_seq'), 'FM000000000000'),
        metadata = case jsonb_typeof(coalesce(s.metadata, '{}'))
          when 'object' then coalesce(s.metadata, '{}') || jsonb_build_object('former_number', s.session_number)
          else s.metadata
        end
    where exists (
      select from public.chat_sessions as earlier
      where earlier.session_number = s.session_number
        and (earlier.created_at, earlier.ctid) < (s.created_at, s.ctid)
    );
    alter table public.chat_sessions add unique (session_number);
  end if;

  -- Sessions: what the specification's triggers and updates meant to write, and its policies did not let them.
  with signs as (
    select
      m.session_id,
      count(*) as messages,
      min(m.created_at) filter (where m.sender_type = 'agent' and m.created_at between earliest and latest)
        as answered_at,
      max(m.created_at) filter (where m.created_at between earliest and latest) as written_at
    from public.chat_messages as m
    group by m.session_id
  ), truth as (
    select
      s.id,
      coalesce(signs.messages, 0) as messages,
      started.at as started_at,
      -- the server's time rather than the agent's clock
      coalesce(
        signs.answered_at,
        case when s.agent_joined_at between earliest and latest then s.agent_joined_at end
      ) as joined_at,
      greatest(
        started.at, signs.written_at,
        case when s.updated_at between earliest and latest then s.updated_at end
      ) as seen_at
    from public.chat_sessions as s
    left join signs on signs.session_id = s.id
    cross join lateral (
      select t as at
      from unnest(array[s.started_at, s.created_at, signs.written_at, s.updated_at, latest])
        with ordinality as times (t, place)
      where t between earliest and latest
      order by place
      limit 1
    ) as started
  ), state as (
    select
      truth.*,
      case
        when s.status not in ('waiting', 'active') then s.status
        -- Whoever left the portal without saying so: the worker would not have let the session lie so long, and in line
        -- it would be given to somebody.
        when truth.seen_at < latest - settings.idle_after
          then case when truth.joined_at is null then 'abandoned' else 'ended' end
        when s.agent_id is null then 'waiting'
        else 'active'
      end as status
    from truth
    join public.chat_sessions as s on s.id = truth.id
    cross join chat.settings as settings
  )
  update public.chat_sessions as s
  set status = state.status,
      created_at = coalesce(s.created_at, state.started_at),
      started_at = state.started_at,
      updated_at = case when s.updated_at between earliest and latest then s.updated_at else state.seen_at end,
      agent_joined_at = state.joined_at,
      ended_at = case
        when state.status in ('waiting', 'active') then null
        when s.ended_at between state.started_at and latest then s.ended_at
        else state.seen_at
      end,
      queue_position = case when state.status = 'waiting' then s.queue_position end,
      messages_count = state.messages
  from state
  where state.id = s.id;

  -- Of several open sessions of one customer the newest goes on, with the agent whom he has already.
  create table chat.adopted_sessions (session_id uuid primary key, superseded_by uuid not null);
  insert into chat.adopted_sessions (session_id, superseded_by)
  select open.id, open.newest
  from (
    select
      s.id,
      first_value(s.id) over (partition by s.customer_id order by s.started_at desc, s.ctid desc) as newest
    from public.chat_sessions as s
    where s.status in ('waiting', 'active')
      and s.customer_id is not null
  ) as open
  where open.id <> open.newest;

  update public.chat_sessions as s
  set agent_id = served.agent_id,
      status = 'active',
      queue_position = null
  from (
    select distinct on (a.superseded_by) a.superseded_by, earlier.agent_id
    from chat.adopted_sessions as a
    join public.chat_sessions as earlier on earlier.id = a.session_id
    where earlier.agent_id is not null
    order by a.superseded_by, earlier.started_at desc
  ) as served
  where s.id = served.superseded_by
    and s.agent_id is null;

  update public.chat_sessions as s
  set status = 'ended',
      ended_at = latest,
      queue_position = null
  from chat.adopted_sessions as a
  where a.session_id = s.id;

  -- What the browser's clock came to below nothing, or nobody wrote down.
  update public.chat_sessions as s
  set chat_duration_seconds = case
        when s.chat_duration_seconds >= 0 then s.chat_duration_seconds
        else floor(extract(epoch from s.ended_at - s.started_at))
      end,
      wait_time_seconds = case
        when s.wait_time_seconds >= 0 then s.wait_time_seconds
        when s.agent_joined_at is not null
          then least(2147483647, greatest(0, floor(extract(epoch from s.agent_joined_at - s.started_at))))
      end
  where s.chat_duration_seconds is null and s.ended_at is not null
    or s.chat_duration_seconds < 0
    or s.wait_time_seconds is null and s.agent_joined_at is not null
    or s.wait_time_seconds < 0;
end
$$;

-- A start closes the customer's earlier session, so this never refuses one.
create unique index if not exists chat_sessions_one_open_per_customer
  on public.chat_sessions (customer_id)
  where status in ('waiting', 'active');

alter table public.chat_sessions enable row level security;

create function chat.is_open(status text)
returns boolean
language sql
immutable
begin atomic
  select status in ('waiting', 'active');
end;

-- Numbers.

-- security definer: callers have no right to the sequence, so that none can burn or read numbers.
create or replace function public.generate_chat_session_number()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  number text := nextval('public.chat_session_number_seq')::text;
begin
  -- lpad to a fixed width would cut the ninth digit off
  new.session_number := 'CHAT-' || lpad(number, greatest(8, length(number)), '0');
  return new;
end
$$;

create trigger generate_chat_session_number_trigger
  before insert on public.chat_sessions
  for each row
  when (new.session_number is null)
  execute function public.generate_chat_session_number();

-- What callers may say.
--
-- The portal sends more than it may (status, agent, times and metrics of the browser's clock), and an error would
-- leave its widget unusable: what a caller may not say is replaced, silently. The functions run as the caller, so
-- that `row_security_active` tells one who is under policies from the database's own statements and the service role.

create function chat.reduce_start()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  if not row_security_active('public.chat_sessions') then
    return new;
  end if;

  new.customer_id := coalesce(new.customer_id, auth.uid());  -- another's is refused by the policy
  new.status := 'waiting';
  new.session_number := null;
  new.tenant_id := null;
  new.agent_id := null;
  new.queue_position := null;
  new.started_at := clock_timestamp();
  new.created_at := new.started_at;
  new.updated_at := new.started_at;
  new.agent_joined_at := null;
  new.ended_at := null;
  new.wait_time_seconds := null;
  new.chat_duration_seconds := null;
  new.messages_count := 0;
  new.rating := null;
  new.feedback_comment := null;
  new.feedback_submitted_at := null;
  new.ip_address := null;
  return new;
end
$$;

create trigger chat_sessions_10_reduce_start
  before insert on public.chat_sessions
  for each row
  execute function chat.reduce_start();

create function chat.reduce_update()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  caller uuid := auth.uid();
  leads boolean;
  kept public.chat_sessions := old;
begin
  if not row_security_active('public.chat_sessions') then
    return new;
  end if;

  leads := (chat.leads_all_tenants() or old.tenant_id = chat.led_tenant()) is true;
  if caller = old.customer_id then
    if chat.is_open(old.status) and not chat.is_open(new.status) then
      -- who leaves before an agent wrote anything was not served
      kept.status := case when old.agent_joined_at is null then 'abandoned' else 'ended' end;
    end if;
    if not chat.is_open(kept.status) and new.rating is not null then
      kept.rating := new.rating;
      kept.feedback_comment := left(new.feedback_comment, 4000);
    end if;

  elsif caller = old.agent_id or leads then
    kept.tags := new.tags;
    kept.metadata := new.metadata;
    if chat.is_open(old.status) then
      if not chat.is_open(new.status) then
        kept.status := 'ended';
      elsif new.agent_id <> old.agent_id and not leads then
        perform chat.request_handover(old.id, new.agent_id);  -- leaves his sight: see there
      elsif new.agent_id is distinct from old.agent_id then
        kept.agent_id := new.agent_id;
      else
        kept.status := new.status;  -- waiting gives an active session back to the queue
      end if;
    end if;

  elsif old.status = 'waiting' and new.agent_id = caller then
    kept.agent_id := caller;  -- somebody who serves this queue takes the session
  end if;

  return kept;
end
$$;

create trigger chat_sessions_10_reduce_update
  before update on public.chat_sessions
  for each row
  execute function chat.reduce_update();

-- What follows from a change within the row itself.
-- security definer: settings are not the callers' to read.
create function chat.settle_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  instant timestamptz := clock_timestamp();
begin
  -- an open session is active while somebody serves it
  if chat.is_open(new.status) then
    if old.customer_id is not null and new.customer_id is null then
      new.status := 'abandoned';  -- the customer's account is gone
    elsif new.status = 'waiting' and old.status = 'active' and new.agent_id is not distinct from old.agent_id then
      new.agent_id := null;
    end if;
  end if;
  if chat.is_open(new.status) then
    new.status := case when new.agent_id is null then 'waiting' else 'active' end;
  end if;

  if chat.is_open(old.status) and not chat.is_open(new.status) then
    new.ended_at := instant;
    new.chat_duration_seconds := floor(extract(epoch from instant - new.started_at));
    new.wait_time_seconds := floor(extract(epoch from new.agent_joined_at - new.started_at));
  elsif chat.is_open(new.status) and not chat.is_open(old.status) then
    new.ended_at := null;
    new.chat_duration_seconds := null;
  end if;
  if new.status <> 'waiting' then
    new.queue_position := null;
  end if;

  if (new.rating, new.feedback_comment) is distinct from (old.rating, old.feedback_comment) then
    if new.ended_at < instant - (select s.rate_within from chat.settings as s) then
      new.rating := old.rating;
      new.feedback_comment := old.feedback_comment;
    else
      new.feedback_submitted_at := instant;
    end if;
  end if;

  new.updated_at := instant;
  return new;
end
$$;

create trigger chat_sessions_20_settle_update
  before update on public.chat_sessions
  for each row
  when (
    (old.status, old.agent_id, old.customer_id, old.rating, old.feedback_comment, old.tags, old.metadata)
    is distinct from
    (new.status, new.agent_id, new.customer_id, new.rating, new.feedback_comment, new.tags, new.metadata)
  )
  execute function chat.settle_update();

revoke execute on all functions in schema chat from public;
revoke execute on function public.generate_chat_session_number() from public, anon, authenticated, service_role;
revoke all on sequence public.chat_session_number_seq from anon, authenticated;
grant execute on function chat.is_open(text) to authenticated, service_role;
