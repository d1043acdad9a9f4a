-- Agents become available, each client its own share, in turn.
\set turn :turn + 1
\set agent :turn * :clients + :client_id + 1
\startpipeline
select bench.enter(bench.agent(:agent));
update public.support_agents set status = 'available' where user_id = bench.agent(:agent);
\endpipeline
