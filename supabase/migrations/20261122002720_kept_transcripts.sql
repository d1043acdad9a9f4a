-- Who reads a transcript, and what is kept of a chat that is over.

-- The sessions the caller was ever given. security definer: whose seats were whose is not the callers' to read.
create function chat.taken_sessions()
returns setof uuid
language sql
stable
security definer
set search_path = ''
begin atomic
  select a.session_id
  from chat.assignments as a
  where a.agent_id = auth.uid();
end;

-- The transcript, if the caller took part in the session or leads its tenant. Who may not learns not even whether
-- there is such a session.
-- security definer: a former agent sees the session no more; asks for itself who is calling.
create function chat.read_transcript(session uuid)
returns jsonb
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return (
    select chat.transcript(s.id)
    from public.chat_sessions as s
    where s.id = session
      and (
        -- no role: no request of the API
        coalesce(auth.role(), 'service_role') = 'service_role'
        or auth.uid() in (s.customer_id, s.agent_id)
        or chat.leads(s.tenant_id)
        or s.id in (select chat.taken_sessions())
      )
  );
end
$$;

create function chat.require_transcript(session uuid)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  document jsonb := chat.read_transcript(session);
begin
  if document is null then
    raise exception 'there is no such session, or its transcript is not yours to read'
      using errcode = 'insufficient_privilege';
  end if;
  return document;
end
$$;

-- What clients call.

-- `format` json gives the document, text and html a string.
create function public.chat_transcript(session_id uuid, format text default 'json', time_zone text default 'UTC')
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
declare
  document jsonb := chat.require_transcript(session_id);
begin
  case format
    when 'json' then return document;
    when 'text' then return to_jsonb(chat.transcript_text(document, time_zone));
    when 'html' then return to_jsonb(chat.transcript_html(document, time_zone));
    else
      raise exception 'a transcript has the format json, text or html, not %', coalesce(format, 'null')
        using errcode = 'invalid_parameter_value';
  end case;
end
$$;

-- The same as they are, for those who ask with `Accept: text/plain` and `Accept: text/html`.
create function public.chat_transcript_text(session_id uuid, time_zone text default 'UTC')
returns chat."text/plain"
language sql
stable
set search_path = ''
as $$
  select chat.transcript_text(chat.require_transcript(session_id), time_zone)
$$;

create function public.chat_transcript_html(session_id uuid, time_zone text default 'UTC')
returns chat."text/html"
language sql
stable
set search_path = ''
as $$
  select chat.transcript_html(chat.require_transcript(session_id), time_zone)
$$;

-- What is kept. Derived from the session and its messages: a row that is deleted comes back, as they are by then, with
-- the session's next change, unless the session was erased.
create table public.chat_transcripts (
  session_id uuid primary key references public.chat_sessions (id) on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  messages_count integer not null,
  document jsonb not null
);

-- Sessions whose transcript is to be written. Not unique, so that no customer waits for the worker.
create table chat.due_transcripts (
  id bigint generated always as identity primary key,
  session_id uuid not null references public.chat_sessions (id) on delete cascade
);

create index due_transcripts_session on chat.due_transcripts (session_id);

alter table public.chat_transcripts enable row level security;
alter table chat.due_transcripts enable row level security;

insert into chat.due_transcripts (session_id)
select s.id
from public.chat_sessions as s
where not chat.is_open(s.status);

-- security definer: the list is not the callers' to write.
create function chat.owe_transcript()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into chat.due_transcripts (session_id)
  values (new.id);
  return null;
end
$$;

create trigger chat_sessions_50_owe_transcript
  after insert on public.chat_sessions
  for each row
  when (new.status not in ('waiting', 'active'))
  execute function chat.owe_transcript();

-- whatever a transcript tells of a session that is over; a message counts on it
create trigger chat_sessions_50_owe_transcript_again
  after update on public.chat_sessions
  for each row
  when (
    new.status not in ('waiting', 'active')
    and (
      old.status, old.messages_count, old.ended_at, old.rating, old.feedback_comment, old.customer_id,
      old.customer_name, old.queue_id, old.agent_joined_at
    ) is distinct from (
      new.status, new.messages_count, new.ended_at, new.rating, new.feedback_comment, new.customer_id,
      new.customer_name, new.queue_id, new.agent_joined_at
    )
  )
  execute function chat.owe_transcript();

-- Writes some of the transcripts that are due. One worker at a time, so that no older reading replaces a newer one.
create function chat.save_transcripts()
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  due uuid[];
  saved bigint;
begin
  if not pg_try_advisory_xact_lock(hashtextextended('chat.transcripts', 0)) then
    return 0;
  end if;

  with taken as (
    delete from chat.due_transcripts as d
    where d.id = any (array(
      select next.id
      from chat.due_transcripts as next
      order by next.id
      limit 100
      for update skip locked
    ))
    returning d.session_id
  )
  select array_agg(distinct taken.session_id)
  into due
  from taken;

  -- of what was erased nothing is kept, whoever was just writing it
  delete from public.chat_transcripts as t
  using public.chat_sessions as s
  where s.id = t.session_id
    and t.session_id = any (due)
    and s.erased_at is not null;

  insert into public.chat_transcripts (session_id, messages_count, document)
  select s.id, jsonb_array_length(written.document -> 'messages'), written.document
  from public.chat_sessions as s
  cross join lateral (select chat.transcript(s.id) as document) as written
  where s.id = any (due)
    and not chat.is_open(s.status)  -- who was reopened ends again
    and s.erased_at is null
  on conflict (session_id) do update
  set created_at = clock_timestamp(),
      messages_count = excluded.messages_count,
      document = excluded.document;
  get diagnostics saved = row_count;
  return saved;
end
$$;

revoke all on public.chat_transcripts from anon, authenticated, service_role;
grant select on public.chat_transcripts to authenticated, service_role;
grant all on chat.due_transcripts to service_role;

create policy "Participants and leads can read transcripts"
  on public.chat_transcripts for select
  to authenticated
  using (
    (select chat.leads_all_tenants())
    or session_id in (select chat.taken_sessions())
    or exists (
      select from public.chat_sessions as s
      where s.id = chat_transcripts.session_id
        and (
          s.customer_id = (select auth.uid())
          or s.agent_id = (select auth.uid())
          or s.tenant_id = (select chat.led_tenant())
        )
    )
  );

revoke execute on all functions in schema chat from public;
grant execute on function
  chat.taken_sessions(), chat.read_transcript(uuid), chat.require_transcript(uuid),
  chat.transcript_facts(jsonb, text), chat.transcript_words(jsonb), chat.transcript_text(jsonb, text),
  chat.transcript_html(jsonb, text), chat.escape_html(text), chat.html_link(text, text), chat.link_addresses(text)
to authenticated, service_role;
revoke execute on function
  public.chat_transcript(uuid, text, text), public.chat_transcript_text(uuid, text),
  public.chat_transcript_html(uuid, text)
from public, anon;
grant execute on function
  public.chat_transcript(uuid, text, text), public.chat_transcript_text(uuid, text),
  public.chat_transcript_html(uuid, text)
to authenticated, service_role;
