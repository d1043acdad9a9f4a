-- Transcripts: one reading of a session (chat.transcript), three ways to write it down, and what is kept of those
-- that ended.

-- Answers that are no JSON name their kind by the domain they return. In this schema, because the portal may have its
-- own of these names in public.
create domain chat."text/html" as text;
create domain chat."text/plain" as text;

-- The reading.

-- What an agent is called before customers: never his address.
create function chat.agent_name(agent uuid)
returns text
language sql
stable
set search_path = ''
as $$
  select coalesce((
    select nullif(nullif(trim(given.name), ''), u.email)
    from auth.users as u,
      lateral (
        select coalesce(u.raw_user_meta_data ->> 'full_name', u.raw_user_meta_data ->> 'name') as name
      ) as given
    where u.id = agent
  ), 'Agent')
$$;

-- Everything a transcript tells, times in UTC. `version` changes when a reader of the old form would be misled.
create function chat.transcript(session uuid)
returns jsonb
language sql
stable
set search_path = ''
set timezone = 'UTC'
as $$
  select jsonb_build_object(
    'version', 1,
    'session', jsonb_build_object(
      'id', s.id,
      'number', s.session_number,
      'status', s.status,
      'queue', (select q.name from public.chat_queues as q where q.id = s.queue_id),
      'started_at', s.started_at,
      'agent_joined_at', s.agent_joined_at,
      'ended_at', s.ended_at,
      'wait_time_seconds', s.wait_time_seconds,
      'chat_duration_seconds', s.chat_duration_seconds,
      'messages_count', s.messages_count
    ),
    'customer', jsonb_build_object('id', s.customer_id, 'name', s.customer_name),
    'agents', (
      select coalesce(
        jsonb_agg(
          jsonb_build_object('id', agents.agent_id, 'name', chat.agent_name(agents.agent_id))
          order by agents.assigned_at
        ),
        '[]'
      )
      from (
        select a.agent_id, min(a.assigned_at) as assigned_at
        from chat.assignments as a
        where a.session_id = s.id
        group by a.agent_id
      ) as agents
    ),
    'rating', case
      when s.rating is not null then jsonb_build_object(
        'stars', s.rating,
        'comment', s.feedback_comment,
        'given_at', s.feedback_submitted_at
      )
    end,
    'messages', (
      with names as materialized (
        select senders.id, chat.agent_name(senders.id) as name
        from (
          select distinct m.sender_id as id
          from public.chat_messages as m
          where m.session_id = s.id
            and m.sender_type = 'agent'
        ) as senders
      )
      select coalesce(
        jsonb_agg(
          jsonb_build_object(
            'id', m.id,
            'sent_at', m.created_at,
            'sender_type', m.sender_type,
            'sender_name', case m.sender_type
              when 'customer' then s.customer_name
              when 'agent' then coalesce(names.name, 'Agent')
            end,
            'type', m.message_type,
            'text', m.message,
            'file', case
              when m.file_url is not null then jsonb_build_object(
                'name', m.file_name,
                'url', m.file_url,
                'size', m.file_size,
                'type', m.file_type
              )
            end
          )
          order by m.created_at, m.seq
        ),
        '[]'
      )
      from public.chat_messages as m
      left join names on names.id = m.sender_id and m.sender_type = 'agent'
      where m.session_id = s.id
    )
  )
  from public.chat_sessions as s
  where s.id = session
$$;

-- What the text and the page say alike.

-- The lines above the messages, in order.
create function chat.transcript_facts(document jsonb, time_zone text)
returns table (label text, fact text)
language sql
stable
set search_path = ''
as $$
  select facts.label, facts.fact
  from (
    select
      document -> 'session' as session,
      document -> 'rating' as rating,
      'YYYY-MM-DD HH24:MI' as clock
  ) as parts,
    lateral (values
      (1, 'Queue', session ->> 'queue'),
      (2, 'Customer', document #>> '{customer,name}'),
      (3, 'Agent', (
        select string_agg(agent ->> 'name', ', ' order by place)
        from jsonb_array_elements(document -> 'agents') with ordinality as agents (agent, place)
      )),
      (4, 'Started', to_char((session ->> 'started_at')::timestamptz at time zone time_zone, clock)),
      (5, 'Ended', to_char((session ->> 'ended_at')::timestamptz at time zone time_zone, clock)),
      (6, 'Time zone', time_zone),
      (7, 'Rating', (rating ->> 'stars') || ' of 5' || coalesce(' – ' || nullif(rating ->> 'comment', ''), ''))
    ) as facts (place, label, fact)
  where facts.fact is not null
  order by facts.place
$$;

-- The words of a message: those of a file are mostly its address, which is told anyway.
create function chat.transcript_words(message jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when message -> 'file' <> 'null' and message ->> 'text' in (message #>> '{file,url}', message #>> '{file,name}')
      then null
    else message ->> 'text'
  end
$$;

-- Plain text: one line a message. Further lines of a message are indented, so that nobody writes another's line.
create function chat.transcript_text(document jsonb, time_zone text)
returns text
language sql
stable
set search_path = ''
as $$
  select concat_ws(
    e'\n',
    'Chat ' || (document #>> '{session,number}'),
    (
      select string_agg(
        facts.label || ': ' || regexp_replace(facts.fact, '[\x01-\x1f\x7f\u0085\u2028\u2029]+', ' ', 'g'),
        e'\n'
      )
      from chat.transcript_facts(document, time_zone) as facts
    ),
    '',
    (
      select string_agg(
        regexp_replace(
          concat_ws(
            ' ',
            '[' || to_char((message ->> 'sent_at')::timestamptz at time zone time_zone, 'YYYY-MM-DD HH24:MI:SS') || ']',
            case message ->> 'sender_type'
              when 'system' then '***'
              else (message ->> 'sender_name') || ':'
            end,
            chat.transcript_words(message),
            case when message -> 'file' <> 'null' then
              format('[file: %s] <%s>', message #>> '{file,name}', message #>> '{file,url}')
            end
          ),
          '(\r\n|[\n-\r\u0085\u2028\u2029])+', e'\n    ', 'g'
        ),
        e'\n' order by place
      )
      from jsonb_array_elements(document -> 'messages') with ordinality as messages (message, place)
    ),
    ''
  )
$$;

-- The page.

create function chat.escape_html(words text)
returns text
language sql
immutable
set search_path = ''
as $$
  select replace(replace(replace(replace(replace(
    words, '&', '&amp;'), '<', '&lt;'), '>', '&gt;'), '"', '&quot;'), '''', '&#39;')
$$;

-- A link to what an http(s) address leads to; anything else stays words.
create function chat.html_link(address text, words text)
returns text
language sql
immutable
set search_path = ''
as $$
  select case
    when address ~* '^https?://[^\s<>"]+$'
      then format(
        '<a href="%s" rel="noopener noreferrer nofollow">%s</a>',
        chat.escape_html(address), chat.escape_html(words)
      )
    else chat.escape_html(words)
  end
$$;

-- Words with the addresses among them as links. Taken apart before anything is escaped: an address ends at a quote,
-- and an escaped one is none.
create function chat.link_addresses(words text)
returns text
language sql
immutable
set search_path = ''
as $$
  select string_agg(chat.html_link(part[1], part[1]), '' order by place)
  from regexp_matches(
    words,
    'https?://[^\s<>"]*[^\s<>".,;:!?)\]}'']|(?:(?!https?://).)+|.',
    'gi'
  ) with ordinality as parts (part, place)
$$;

create function chat.transcript_html(document jsonb, time_zone text)
returns text
language sql
stable
set search_path = ''
as $page$
  with messages as (
    select
      place,
      message,
      message ->> 'sender_type' as sender,
      (message ->> 'sent_at')::timestamptz at time zone time_zone as sent_at,
      message -> 'file' as file
    from jsonb_array_elements(document -> 'messages') with ordinality as listed (message, place)
  ), written as (
    select
      place,
      case when sent_at::date is distinct from lag(sent_at::date) over (order by place) then
        format(
          '<h2 class="day"><time datetime="%s">%s</time></h2>' || e'\n',
          to_char(sent_at, 'YYYY-MM-DD'), to_char(sent_at, 'FMDay, FMDD FMMonth YYYY')
        )
      else '' end
      || format(
        '<article class="%s">%s<div class="bubble" dir="auto">%s%s</div><time datetime="%s">%s</time></article>',
        sender,
        '<h3 dir="auto">' || chat.escape_html(message ->> 'sender_name') || '</h3>',
        '<p>' || chat.link_addresses(chat.transcript_words(message)) || '</p>',
        case when file <> 'null' then
          '<p class="file"><small>File:</small> '
          || chat.html_link(file ->> 'url', coalesce(file ->> 'name', file ->> 'url'))
          || coalesce(' <small>' || pg_size_pretty((file ->> 'size')::bigint) || '</small>', '')
          || '</p>'
        end,
        message ->> 'sent_at',
        to_char(sent_at, 'HH24:MI:SS')
      ) as html
    from messages
  )
  select concat_ws(
    e'\n',
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    '<meta name="robots" content="noindex">',
    '<meta name="color-scheme" content="light dark">',
    '<title>Chat ' || chat.escape_html(document #>> '{session,number}') || '</title>',
    $css$<style>
:root {
  color-scheme: light dark;
  --page: #f4f5f7; --sheet: #fff; --ink: #1d2733; --faint: #66717f; --line: #dfe3e8;
  --customer: #eceff3; --agent: #dcecff; --link: #0b5cc2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --sheet: #1a2027; --ink: #e4e9ef; --faint: #97a3b0; --line: #303943;
    --customer: #28303a; --agent: #17375e; --link: #7db4ff;
  }
}
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1rem; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 2rem; background: var(--sheet); border: 1px solid var(--line); border-radius: 12px; }
h1 { margin: 0 0 1rem; font-size: 1.5rem; }
a { color: var(--link); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1.25rem; margin: 0; padding-bottom: 1.25rem; border-bottom: 1px solid var(--line); }
dt, small, article > time, .day, .system { color: var(--faint); }
dd { margin: 0; overflow-wrap: anywhere; white-space: pre-line; }
.day { margin: 1.75rem 0 .5rem; font-size: .8rem; font-weight: 600; text-align: center; }
article { display: flex; flex-direction: column; align-items: flex-start; margin: 1rem 0; break-inside: avoid; }
article.agent { align-items: flex-end; }
article.system { align-items: center; text-align: center; font-size: .875rem; }
h3 { margin: 0 .25rem .15rem; font-size: .8rem; }
.bubble { max-width: 85%; padding: .55rem .85rem; background: var(--customer); border-radius: 12px; border-start-start-radius: 3px; }
.agent .bubble { background: var(--agent); border-radius: 12px; border-start-end-radius: 3px; }
.system .bubble { padding: 0; background: none; }
p { margin: 0; overflow-wrap: anywhere; white-space: pre-wrap; }
article > time { margin: .15rem .25rem 0; font-size: .75rem; }
@media print {
  :root { --page: #fff; --sheet: #fff; --ink: #000; --faint: #555; --line: #bbb; --customer: #f1f1f1; --agent: #e4eefb; --link: #000; }
  body { padding: 0; font-size: 11pt; }
  main { max-width: none; padding: 0; border: 0; }
  .bubble { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  .file a::after { content: " <" attr(href) ">"; font-size: .8em; overflow-wrap: anywhere; }
}
</style>$css$,
    '</head>',
    '<body>',
    '<main>',
    '<h1>Chat ' || chat.escape_html(document #>> '{session,number}') || '</h1>',
    '<dl>',
    (
      select string_agg(
        format('<dt>%s</dt><dd dir="auto">%s</dd>', facts.label, chat.escape_html(facts.fact)),
        e'\n'
      )
      from chat.transcript_facts(document, time_zone) as facts
    ),
    '</dl>',
    (select string_agg(written.html, e'\n' order by written.place) from written),
    '</main>',
    '</body>',
    '</html>',
    ''
  )
$page$;

-- Who may read.

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
