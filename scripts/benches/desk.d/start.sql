-- Customers start, each client its own share, in turn.
\set turn :turn + 1
\set customer :turn * :clients + :client_id
\startpipeline
select bench.enter(bench.customer(:customer));
insert into public.chat_sessions (customer_id, customer_name, customer_email, status, page_url, user_agent)
values (bench.customer(:customer), 'Guest User', 'guest@example.com', 'waiting', 'https://example.com/', 'pgbench')
returning *;
\endpipeline
