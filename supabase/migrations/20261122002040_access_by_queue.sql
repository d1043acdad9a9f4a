-- Who may see and say what, by queue: agents see who waits in the queues they serve, leads set queues up.

-- The queues that the caller serves. security definer: callers do not read who else serves what.
create function chat.served_queues()
returns uuid[]
language sql
stable
security definer
set search_path = ''
begin atomic
  select chat.queues_of(auth.uid(), chat.claimed_tenant());
end;

grant execute on function chat.served_queues() to authenticated, service_role;

alter policy "Agents can view assigned chat sessions"
  on public.chat_sessions
  using (
    agent_id = (select auth.uid())
    or (select chat.leads_all_tenants())
    or tenant_id = (select chat.led_tenant())
    or status = 'waiting'
      and ((select chat.serves_all_tenants()) or tenant_id = (select chat.served_tenant()))
      and queue_id = any ((select chat.served_queues())::uuid[])
  );

alter policy "Agents can work on chat sessions"
  on public.chat_sessions
  using (
    agent_id = (select auth.uid())
    or (select chat.leads_all_tenants())
    or tenant_id = (select chat.led_tenant())
    or status = 'waiting'
      and ((select chat.serves_all_tenants()) or tenant_id = (select chat.served_tenant()))
      and queue_id = any ((select chat.served_queues())::uuid[])
  );

grant insert (queue_id, required_skills) on public.chat_sessions to authenticated;
grant update (queue_id, priority, required_skills) on public.chat_sessions to authenticated;

-- Queues and members. Everybody who signed in may choose among his tenant's queues; leads set them up.

revoke all on public.chat_queues, public.chat_queue_members from anon, authenticated;
grant all on public.chat_queues, public.chat_queue_members to service_role;
grant select, insert, update, delete on public.chat_queues, public.chat_queue_members to authenticated;

create policy "Users see the queues they can turn to"
  on public.chat_queues for select
  to authenticated
  using (
    tenant_id is null
    or tenant_id = (select chat.claimed_tenant())
    or (select chat.serves_all_tenants())
  );

create policy "Leads add queues"
  on public.chat_queues for insert
  to authenticated
  with check ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

create policy "Leads change queues"
  on public.chat_queues for update
  to authenticated
  using ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()))
  with check ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

create policy "Leads remove queues"
  on public.chat_queues for delete
  to authenticated
  using ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

-- Staff see who serves the queues that they see.
create policy "Staff see members"
  on public.chat_queue_members for select
  to authenticated
  using (
    (select chat.is_staff())
    and exists (select from public.chat_queues as q where q.id = chat_queue_members.queue_id)
  );

create policy "Leads add members"
  on public.chat_queue_members for insert
  to authenticated
  with check (exists (
    select from public.chat_queues as q
    where q.id = chat_queue_members.queue_id
      and ((select chat.leads_all_tenants()) or q.tenant_id = (select chat.led_tenant()))
  ));

create policy "Leads remove members"
  on public.chat_queue_members for delete
  to authenticated
  using (exists (
    select from public.chat_queues as q
    where q.id = chat_queue_members.queue_id
      and ((select chat.leads_all_tenants()) or q.tenant_id = (select chat.led_tenant()))
  ));

-- Agents, legs and the audit trail: staff of the tenant read, leads set seats and skills.

grant select on chat.agents, chat.assignments, chat.events, chat.settings to authenticated;
grant update (capacity, skills) on chat.agents to authenticated;

create policy "Staff see agents"
  on chat.agents for select
  to authenticated
  using (
    user_id = (select auth.uid())
    or (select chat.serves_all_tenants())
    or tenant_id = (select chat.served_tenant())
    or tenant_id is null and (select chat.is_staff())
  );

create policy "Leads set seats and skills"
  on chat.agents for update
  to authenticated
  using ((select chat.leads_all_tenants()) or tenant_id = (select chat.led_tenant()));

create policy "Staff see the legs of sessions that they see"
  on chat.assignments for select
  to authenticated
  using (
    (select chat.is_staff())
    and exists (select from public.chat_sessions as s where s.id = assignments.session_id)
  );

create policy "Staff see the history of sessions that they see"
  on chat.events for select
  to authenticated
  using (
    (select chat.is_staff())
    and exists (select from public.chat_sessions as s where s.id = events.session_id)
  );

create policy "Staff see settings"
  on chat.settings for select
  to authenticated
  using ((select chat.is_staff()));

create policy "Leads of all tenants change settings"
  on chat.settings for update
  to authenticated
  using ((select chat.leads_all_tenants()));

revoke execute on all functions in schema chat from public;
