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

revoke execute on all functions in schema chat from public;
