-- What follows a change of a queue.

-- A queue's priority and skills count for those who wait in it.
-- security definer: who leads changes queues, not the line.
create function chat.follow_queue_change()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- alone at the line: who joins it just now has looked at the queue as it was
  perform chat.lock_queue_to_join();
  perform chat.move_place(s)
  from public.chat_sessions as s
  where s.queue_id = new.id
    and s.status = 'waiting';
  perform pg_notify('chat', 'queue');
  return null;
end
$$;

create trigger chat_queues_30_follow_change
  after update on public.chat_queues
  for each row
  when ((old.priority, old.required_skills) is distinct from (new.priority, new.required_skills))
  execute function chat.follow_queue_change();

create function chat.keep_default_queue()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'the default queue of all tenants stays'
    using errcode = 'check_violation', hint = 'Sessions that name no queue go there.';
end
$$;

create trigger chat_queues_10_keep_default
  before delete on public.chat_queues
  for each row
  when (old.is_default and old.tenant_id is null)
  execute function chat.keep_default_queue();

create trigger chat_queues_10_keep_default_update
  before update on public.chat_queues
  for each row
  when (old.is_default and old.tenant_id is null and (not new.is_default or new.tenant_id is not null))
  execute function chat.keep_default_queue();

revoke execute on all functions in schema chat from public;
