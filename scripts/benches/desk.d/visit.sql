-- A customer starts a chat as the portal does, through the gateway's way of one transaction a write, and ends it.
\set customer random(1, :customers)
\startpipeline
select bench.enter(bench.customer(:customer));
insert into public.chat_sessions (customer_id, customer_name, customer_email, status, page_url, user_agent)
values (bench.customer(:customer), 'Guest User', 'guest@example.com', 'waiting', 'https://example.com/', 'pgbench')
returning *;
\endpipeline
\startpipeline
select bench.enter(bench.customer(:customer));
update public.chat_sessions
set status = 'ended', ended_at = now()
where customer_id = bench.customer(:customer)
  and status in ('waiting', 'active');
\endpipeline
