-- A customer writes into his chat; each client is one of those who started in the first turn.
\set customer :clients + :client_id
\startpipeline
select bench.enter(bench.customer(:customer));
insert into public.chat_messages (session_id, sender_id, sender_type, message)
select s.id, s.customer_id, 'customer', 'Hello, is anybody there who could help me with my order?'
from public.chat_sessions as s
where s.customer_id = bench.customer(:customer)
  and s.status in ('waiting', 'active')
returning *;
\endpipeline
