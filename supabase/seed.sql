-- A small desk to look at: one tenant, a manager, two agents and their queues, a customer, and what they said. Every
-- password is `password`. Running it again changes nothing. Not for production.
--
-- The staff's accounts name no tenant: they serve every customer, visitors without an account among them.

insert into public.tenants (id, name)
values ('d0000000-0000-4000-8000-000000000000', 'Demo')
on conflict (id) do nothing;

-- the people
with people (id, email, full_name, tenant) as (
  values
    ('d1000000-0000-4000-8000-000000000001'::uuid, 'manager@example.com', 'Mona Manager', false),
    ('d2000000-0000-4000-8000-000000000001', 'anna@example.com', 'Anna Agent', false),
    ('d2000000-0000-4000-8000-000000000002', 'ben@example.com', 'Ben Agent', false),
    ('d3000000-0000-4000-8000-000000000001', 'customer@example.com', 'Carla Customer', true)
), added as (
  insert into auth.users (
    instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
    raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
    confirmation_token, recovery_token, email_change, email_change_token_new
  )
  select
    '00000000-0000-0000-0000-000000000000', id, 'authenticated', 'authenticated', email,
    extensions.crypt('password', extensions.gen_salt('bf')), now(),
    jsonb_strip_nulls(jsonb_build_object(
      'provider', 'email',
      'providers', array['email'],
      'tenant_id', case when tenant then 'd0000000-0000-4000-8000-000000000000' end
    )),
    jsonb_build_object('full_name', full_name), now(), now(),
    '', '', '', ''
  from people
  on conflict do nothing
  returning id, email
)
insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
select
  id::text, id, jsonb_build_object('sub', id, 'email', email, 'email_verified', true), 'email', now(), now(), now()
from added
on conflict do nothing;

insert into public.user_roles (user_id, role_name)
select wanted.user_id, wanted.role_name
from (
  values
    ('d1000000-0000-4000-8000-000000000001'::uuid, 'support_manager'),
    ('d2000000-0000-4000-8000-000000000001', 'support_agent'),
    ('d2000000-0000-4000-8000-000000000002', 'support_agent')
) as wanted (user_id, role_name)
where exists (select from auth.users as u where u.id = wanted.user_id)
  and not exists (
    select from public.user_roles as r
    where r.user_id = wanted.user_id and r.role_name = wanted.role_name
  );

insert into public.support_agents (user_id, status, is_accepting_tickets)
select wanted.user_id, wanted.status, true
from (
  values
    ('d2000000-0000-4000-8000-000000000001'::uuid, 'available'),
    ('d2000000-0000-4000-8000-000000000002', 'offline')
) as wanted (user_id, status)
where exists (select from auth.users as u where u.id = wanted.user_id)
  and not exists (select from public.support_agents as a where a.user_id = wanted.user_id);

-- an earlier chat, and one under way
insert into public.chat_sessions (
  id, tenant_id, customer_id, customer_name, customer_email, agent_id, status,
  started_at, agent_joined_at, ended_at, wait_time_seconds, chat_duration_seconds,
  rating, feedback_comment, feedback_submitted_at, page_url, created_at
)
select
  'd4000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000000', u.id, 'Carla Customer', u.email,
  'd2000000-0000-4000-8000-000000000002', 'ended',
  now() - interval '1 day', now() - interval '1 day' + interval '25 seconds', now() - interval '1 day' + interval '6 minutes',
  25, 360, 5, 'Quick and friendly.', now() - interval '1 day' + interval '7 minutes',
  'https://shop.example.com/orders', now() - interval '1 day'
from auth.users as u
where u.id = 'd3000000-0000-4000-8000-000000000001'
on conflict (id) do nothing;

insert into public.chat_sessions (
  id, tenant_id, customer_id, customer_name, customer_email, agent_id, status, started_at, page_url
)
select
  'd4000000-0000-4000-8000-000000000002', 'd0000000-0000-4000-8000-000000000000', u.id, 'Carla Customer', u.email,
  'd2000000-0000-4000-8000-000000000001', 'active', now() - interval '2 minutes', 'https://shop.example.com/cart'
from auth.users as u
where u.id = 'd3000000-0000-4000-8000-000000000001'
  and not exists (
    select from public.chat_sessions as s where s.customer_id = u.id and s.status in ('waiting', 'active')
  )
on conflict (id) do nothing;

insert into public.chat_messages (id, session_id, sender_id, sender_type, message, created_at, is_read)
select
  line.id, line.session_id, line.sender_id, line.sender_type, line.message, s.started_at + line.after,
  s.status = 'ended'
from (
  values
    ('d5000000-0000-4000-8000-000000000001'::uuid, 'd4000000-0000-4000-8000-000000000001'::uuid,
      'd3000000-0000-4000-8000-000000000001'::uuid, 'customer', 'Where is my order?', interval '5 seconds'),
    ('d5000000-0000-4000-8000-000000000002', 'd4000000-0000-4000-8000-000000000001',
      'd2000000-0000-4000-8000-000000000002', 'agent', 'Hello Carla, I am looking it up.', interval '25 seconds'),
    ('d5000000-0000-4000-8000-000000000003', 'd4000000-0000-4000-8000-000000000001',
      'd2000000-0000-4000-8000-000000000002', 'agent', 'It left our warehouse this morning.', interval '2 minutes'),
    ('d5000000-0000-4000-8000-000000000004', 'd4000000-0000-4000-8000-000000000001',
      'd3000000-0000-4000-8000-000000000001', 'customer', 'Thank you!', interval '3 minutes'),
    ('d5000000-0000-4000-8000-000000000005', 'd4000000-0000-4000-8000-000000000002',
      'd3000000-0000-4000-8000-000000000001', 'customer', 'Does the blue one come in size 42?', interval '20 seconds')
) as line (id, session_id, sender_id, sender_type, message, after)
join public.chat_sessions as s on s.id = line.session_id
where not exists (select from public.chat_messages as m where m.id = line.id)
order by line.id;

-- a second queue, whom it takes, and when it is open
update public.chat_queues
set time_zone = 'Europe/Berlin'
where id = '00000000-0000-4000-8000-000000000137';

insert into public.chat_queues (id, name, routing, answer_within, overflow_queue_id, overflow_after, time_zone)
values (
  'd6000000-0000-4000-8000-000000000001', 'Returns', 'longest_idle', '2 minutes',
  '00000000-0000-4000-8000-000000000137', '5 minutes', 'Europe/Berlin'
)
on conflict do nothing;

insert into public.chat_queue_members (queue_id, agent_id)
select q.id, u.id
from public.chat_queues as q
cross join auth.users as u
where q.id = 'd6000000-0000-4000-8000-000000000001'
  and u.id = 'd2000000-0000-4000-8000-000000000002'
on conflict do nothing;

insert into public.chat_business_hours (queue_id, weekday, opens, closes)
select q.id, weekday, '08:00', '20:00'
from public.chat_queues as q
cross join generate_series(1, 6) as weekday
where q.id = 'd6000000-0000-4000-8000-000000000001'
on conflict do nothing;

update chat.agents
set skills = '{german,english}'
where user_id = 'd2000000-0000-4000-8000-000000000001'
  and skills = '{}';

insert into public.chat_canned_replies (shortcut, title, body)
values
  ('hello', 'Greeting', 'Hello {{customer_name}}, this is {{agent_name}}. How can I help?'),
  ('moment', 'One moment', 'One moment please, I am looking it up.'),
  ('bye', 'Farewell', 'Thank you for writing to us. Your chat has the number {{session_number}}.')
on conflict do nothing;

-- what would have been measured had it happened here
do $$
begin
  perform chat.measure('d4000000-0000-4000-8000-000000000001');
end
$$;
