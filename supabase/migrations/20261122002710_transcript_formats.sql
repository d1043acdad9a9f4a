-- How a transcript reads: as text, and as a page.

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

revoke execute on all functions in schema chat from public;
