-- What is measured about a session, on its row. All by the server's clock.

alter table public.chat_sessions
  -- when its agent was given it
  add column assigned_at timestamptz,
  -- time in line, all legs together
  add column queue_seconds integer,
  -- from the customer's first message to the agent's; from the start, if the customer had written nothing
  add column first_response_seconds integer,
  -- from the answering agent's assignment to his first message
  add column reaction_seconds integer,
  -- gaps between messages, cut at what somebody is present for
  add column active_seconds integer,
  -- agents' time with it, all legs together
  add column handle_seconds integer,
  -- the customer left, or was lost, before a human wrote
  add column abandoned boolean,
  -- ... sooner than chat.settings.short_abandon
  add column short_abandon boolean,
  -- an agent had it and never answered before the customer left
  add column missed boolean,
  -- ended with the customer's last words unanswered
  add column dropped boolean,
  add column transfers_count integer not null default 0,
  add column requeues_count integer not null default 0,
  -- messages of the other side that each has not read
  add column unread_by_agent integer not null default 0,
  add column unread_by_customer integer not null default 0,
  -- when the customer's unanswered words began; null: nothing is unanswered
  add column unanswered_since timestamptz;

alter table chat.settings
  add column short_abandon interval not null default '10 seconds',
  add column service_level_within interval not null default '20 seconds';
