-- What routing asks of an agent stands on his row, so that one look at chat.agents finds him: which tenant he belongs to
-- and which queues he serves, besides his skills, his seats and whether he is there.

alter table chat.agents
  -- null: he serves every tenant
  add column tenant_id uuid,
  add column queues uuid[] not null default '{}',
  add column available_since timestamptz;

-- Who could be given a session now, in the order of the default routing.
create index agents_with_a_free_seat
  on chat.agents ((load::double precision / nullif(capacity, 0)), last_assigned_at nulls first, user_id)
  where available and load < capacity;

-- The order of the line: all of it for agents, one queue's and tenant's for its numbers.
drop index chat.queue_line;
create index queue_line on chat.queue (rank_at, id) where left_at is null;
create index queue_line_by_queue on chat.queue (queue_id, tenant_id, rank_at, id) where left_at is null;

-- The tenant that an account names; null when it names none, or no id.
create function chat.tenant_of(account jsonb)
returns uuid
language sql
immutable
begin atomic
  select case
    when account ->> 'tenant_id' ~ '^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$'
      then (account ->> 'tenant_id')::uuid
  end;
end;

-- The queues that an agent of this tenant serves: those he is a member of, and those that have no members.
create function chat.queues_of(agent uuid, tenant uuid)
returns uuid[]
language sql
stable
begin atomic
  select array(
    select q.id
    from public.chat_queues as q
    where (tenant is null or q.tenant_id is null or q.tenant_id = tenant)
      and (
        exists (select from public.chat_queue_members as m where m.queue_id = q.id and m.agent_id = agent)
        or not exists (select from public.chat_queue_members as m where m.queue_id = q.id)
      )
    order by q.id
  );
end;

-- Sets down whom these agents serve; null: every agent.
create function chat.refresh_agents(agents uuid[] default null)
returns void
language sql
set search_path = ''
as $$
  with wanted as (
    select a.user_id, tenant.id as tenant_id, chat.queues_of(a.user_id, tenant.id) as queues
    from chat.agents as a
    join auth.users as u on u.id = a.user_id
    cross join lateral (select chat.tenant_of(u.raw_app_meta_data) as id) as tenant
    where agents is null or a.user_id = any (agents)
  ), changed as (
    select a.user_id, wanted.tenant_id, wanted.queues
    from chat.agents as a
    join wanted on wanted.user_id = a.user_id
    where (a.tenant_id, a.queues) is distinct from (wanted.tenant_id, wanted.queues)
    order by a.user_id
    for no key update of a
  )
  update chat.agents as a
  set tenant_id = changed.tenant_id,
      queues = changed.queues
  from changed
  where changed.user_id = a.user_id
$$;

-- security definer: whoever may change queues, members and accounts does not write what follows from it.
create function chat.follow_queues()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- alone at the line: agents are changed who may be just about to serve it
  perform chat.lock_queue_to_join();
  perform chat.refresh_agents();
  perform pg_notify('chat', 'agents');
  return null;
end
$$;

create trigger chat_queues_20_follow
  after insert or delete or update of tenant_id on public.chat_queues
  for each statement
  execute function chat.follow_queues();

create trigger chat_queue_members_20_follow
  after insert or delete or update on public.chat_queue_members
  for each statement
  execute function chat.follow_queues();

create function chat.follow_account()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform chat.refresh_agents(array[new.id]);
  return null;
end
$$;

create or replace trigger chat_follow_account
  after update of raw_app_meta_data on auth.users
  for each row
  when (old.raw_app_meta_data ->> 'tenant_id' is distinct from new.raw_app_meta_data ->> 'tenant_id')
  execute function chat.follow_account();

revoke execute on all functions in schema chat from public;
