-- Who may see and say what. Grants are explicit, down to the column: new projects grant nothing on new tables, older
-- ones everything. Triggers have already cut what a caller may not say when a policy looks at his row.

revoke all on public.chat_sessions, public.chat_messages, public.chat_typing_indicators from anon, authenticated;

grant all on public.chat_sessions, public.chat_messages, public.chat_typing_indicators to service_role;
grant usage on sequence public.chat_session_number_seq, public.chat_messages_seq to service_role;
grant all on all tables in schema chat to service_role;

grant select on public.chat_sessions, public.chat_messages, public.chat_typing_indicators to authenticated;

grant insert (customer_id, customer_name, customer_email, status, page_url, user_agent, metadata)
  on public.chat_sessions to authenticated;
-- what the portal's update sends, though most of it is the server's to say, and what staff may write
grant update (
    status, agent_id, agent_joined_at, ended_at, wait_time_seconds, chat_duration_seconds,
    rating, feedback_comment, feedback_submitted_at, tags, metadata
  )
  on public.chat_sessions to authenticated;

grant insert (
    session_id, sender_id, sender_type, message, message_type, file_url, file_name, file_size, file_type, metadata
  )
  on public.chat_messages to authenticated;
grant update (is_read) on public.chat_messages to authenticated;

-- an upsert sets every column it names
grant insert (session_id, user_id, is_typing, updated_at),
  update (session_id, user_id, is_typing, updated_at),
  delete
  on public.chat_typing_indicators to authenticated;

-- Sessions.

create policy "Customers can view their own chat sessions"
  on public.chat_sessions for select
  to authenticated
  using (customer_id = (select auth.uid()));

-- their own, the queues they serve, and for leads whatever their tenant has
create policy "Agents can view assigned chat sessions"
  on public.chat_sessions for select
  to authenticated
  using (
    agent_id = (select auth.uid())
    or (select chat.leads_all_tenants())
    or tenant_id = (select chat.led_tenant())
    or status = 'waiting' and ((select chat.serves_all_tenants()) or tenant_id = (select chat.served_tenant()))
  );

create policy "Customers can start chat sessions"
  on public.chat_sessions for insert
  to authenticated
  with check (customer_id = (select auth.uid()));

create policy "Customers can end and rate their chat sessions"
  on public.chat_sessions for update
  to authenticated
  using (customer_id = (select auth.uid()))
  with check (customer_id = (select auth.uid()));

create policy "Agents can work on chat sessions"
  on public.chat_sessions for update
  to authenticated
  using (
    agent_id = (select auth.uid())
    or (select chat.leads_all_tenants())
    or tenant_id = (select chat.led_tenant())
    or status = 'waiting' and ((select chat.serves_all_tenants()) or tenant_id = (select chat.served_tenant()))
  );

-- Messages: who sees a session sees its messages; its customer and its agent write.

create policy "Users can view messages in their sessions"
  on public.chat_messages for select
  to authenticated
  using (exists (select from public.chat_sessions as s where s.id = chat_messages.session_id));

create policy "Users can send messages in their sessions"
  on public.chat_messages for insert
  to authenticated
  with check (
    sender_id = (select auth.uid())
    and exists (
      select from public.chat_sessions as s
      where s.id = chat_messages.session_id
        and (s.customer_id = (select auth.uid()) or s.agent_id = (select auth.uid()))
    )
  );

create policy "Users can mark messages of the other party as read"
  on public.chat_messages for update
  to authenticated
  using (
    sender_id is distinct from (select auth.uid())
    and exists (
      select from public.chat_sessions as s
      where s.id = chat_messages.session_id
        and (s.customer_id = (select auth.uid()) or s.agent_id = (select auth.uid()))
    )
  );

-- Typing.

create policy "Users can see who types in their sessions"
  on public.chat_typing_indicators for select
  to authenticated
  using (exists (select from public.chat_sessions as s where s.id = chat_typing_indicators.session_id));

create policy "Participants can type"
  on public.chat_typing_indicators for insert
  to authenticated
  with check (
    user_id = (select auth.uid())
    and exists (
      select from public.chat_sessions as s
      where s.id = chat_typing_indicators.session_id
        and (s.customer_id = (select auth.uid()) or s.agent_id = (select auth.uid()))
    )
  );

create policy "Participants can go on typing"
  on public.chat_typing_indicators for update
  to authenticated
  using (user_id = (select auth.uid()))
  with check (user_id = (select auth.uid()));

create policy "Participants can stop typing"
  on public.chat_typing_indicators for delete
  to authenticated
  using (user_id = (select auth.uid()));

-- Profiles, for embedding by foreign key. The view reads auth.users as its owner, so it says itself who sees whom:
-- everybody himself and the agents who serve or served him, staff the users of their tenant and their customers.
-- Addresses are for staff and for oneself.
create view public.chat_users
with (security_barrier = true)
as
select
  u.id,
  coalesce(u.raw_user_meta_data ->> 'full_name', u.raw_user_meta_data ->> 'name') as full_name,
  u.raw_user_meta_data ->> 'avatar_url' as avatar_url,
  case
    when u.id = (select auth.uid()) or (select chat.is_staff()) or (select auth.role()) = 'service_role'
      then u.email
  end as email
from auth.users as u
where u.id = (select auth.uid())
  or (select auth.role()) = 'service_role'
  or (select chat.serves_all_tenants())
  or u.raw_app_meta_data ->> 'tenant_id' = (select chat.served_tenant())::text
  or exists (
    select from public.chat_sessions as s
    where s.agent_id = u.id and s.customer_id = (select auth.uid())
  )
  or exists (
    select from public.chat_sessions as s
    where s.customer_id = u.id and s.agent_id = (select auth.uid())
  )
  or exists (
    select from chat.assignments as a
    join public.chat_sessions as s on s.id = a.session_id
    where a.agent_id = u.id and s.customer_id = (select auth.uid())
  );

revoke all on public.chat_users from anon, authenticated, service_role;
grant select on public.chat_users to authenticated, service_role;

-- The customer's own account and request, which a start is filled in from. security definer: callers do not read
-- auth.users; they learn nothing here but what is theirs.

create function chat.own_account()
returns table (name text, email text)
language sql
stable
security definer
set search_path = ''
begin atomic
  select
    left(coalesce(u.raw_user_meta_data ->> 'full_name', u.raw_user_meta_data ->> 'name'), 255),
    left(u.email, 255)
  from auth.users as u
  where u.id = auth.uid();
end;

-- A header of the request that is under way; null outside one.
create function chat.request_header(name text)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  return nullif(current_setting('request.headers', true), '')::json ->> name;
exception
  when invalid_text_representation then
    return null;  -- no JSON: not a request of the API
end
$$;

-- The network the request came from: the address itself would identify a person.
create function chat.request_network()
returns inet
language plpgsql
stable
set search_path = ''
as $$
declare
  address inet := trim(split_part(chat.request_header('x-forwarded-for'), ',', 1))::inet;
begin
  return network(set_masklen(address, case family(address) when 4 then 24 else 48 end));
exception
  when others then
    return null;  -- whatever a proxy wrote there, the chat starts
end
$$;

create function chat.introduce_customer()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  account record;
  given jsonb := jsonb_build_object('name', new.customer_name, 'email', new.customer_email);
begin
  if not row_security_active('public.chat_sessions') then
    return new;
  end if;

  -- what a known user calls himself here would let him pose as another: what he sent is kept beside
  select * into account from chat.own_account();
  new.customer_name := coalesce(account.name, new.customer_name, account.email, 'Guest');
  new.customer_email := coalesce(account.email, new.customer_email, '');
  if given <> jsonb_build_object('name', new.customer_name, 'email', new.customer_email) then
    new.metadata := case jsonb_typeof(new.metadata)
      when 'object' then new.metadata
      else '{}'::jsonb
    end || jsonb_build_object('given', given);
  end if;

  new.user_agent := left(coalesce(new.user_agent, chat.request_header('user-agent')), 1000);
  new.ip_address := chat.request_network();
  return new;
end
$$;

create trigger chat_sessions_15_introduce_customer
  before insert on public.chat_sessions
  for each row
  execute function chat.introduce_customer();

revoke execute on all functions in schema chat from public;
grant execute on function chat.own_account(), chat.request_header(text), chat.request_network()
  to authenticated, service_role;
