-- What `done` transactions spent their time in.
\echo 'functions, in microseconds a transaction: their own time, and with what they call'
select
  f.schemaname || '.' || f.funcname as function,
  round((f.calls / :done.0)::numeric, 2) as calls,
  round((f.self_time * 1000 / :done.0)::numeric) as own,
  round((f.total_time * 1000 / :done.0)::numeric) as total
from pg_stat_user_functions as f
where f.self_time * 1000 / :done.0 >= 1
order by f.self_time desc
limit 25;

\echo 'statements, the same'
select
  round((s.calls / :done.0)::numeric, 2) as calls,
  round((s.total_exec_time * 1000 / :done.0)::numeric) as total,
  round((s.total_plan_time * 1000 / :done.0)::numeric) as planning,
  s.toplevel,
  left(regexp_replace(s.query, '\s+', ' ', 'g'), 110) as statement
from bench.pg_stat_statements as s
where s.dbid = (select oid from pg_database where datname = current_database())
order by s.total_exec_time desc
limit 25;
