-- Availability: an agent who becomes available serves the line at once.
-- security definer: the sessions in line are not his yet.

create function chat.follow_agent()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  insert into chat.agents (user_id)
  select u.id
  from auth.users as u
  where u.id = new.user_id
  on conflict (user_id) do nothing;

  if new.status = 'available' and new.is_accepting_tickets then
    perform pg_notify('chat', 'agents');
    -- alone at the queue, because several heads are served in one transaction
    perform chat.lock_queue_to_join();
    while chat.assign_next() is not null loop
      null;
    end loop;
  end if;
  return null;
end
$$;

create or replace trigger chat_10_follow_agent
  after insert or update on public.support_agents
  for each row
  execute function chat.follow_agent();

insert into chat.agents (user_id)
select distinct u.id
from auth.users as u
join public.support_agents as a on a.user_id = u.id
on conflict (user_id) do nothing;

revoke execute on all functions in schema chat from public;
