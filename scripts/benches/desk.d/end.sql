-- Those who started end, in the same turn.
\set turn :turn + 1
\set customer :turn * :clients + :client_id
\startpipeline
select bench.enter(bench.customer(:customer));
update public.chat_sessions
set status = 'ended', ended_at = now()
where customer_id = bench.customer(:customer)
  and status in ('waiting', 'active');
\endpipeline
