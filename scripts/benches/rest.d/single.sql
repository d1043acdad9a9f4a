-- One row by its key, statement by statement.
\set user random(0, 99)
\set id (:user + 99) % 100 + 1 + 100 * random(0, 199)
begin;
select set_config('transaction_read_only', 'on', true),
  set_config('search_path', '"public", "extensions"', true),
  set_config('role', 'authenticated', true),
  set_config('request.jwt.claims', '{"role":"authenticated","sub":"' || public.bench_user(:user) || '"}', true),
  set_config('request.method', 'GET', true),
  set_config('request.path', '/bench_items', true),
  set_config('request.headers', '{}', true),
  set_config('request.cookies', '{}', true);
select count(*)::text, coalesce(json_agg(t), '[]')::text
from (
  select id, name, amount
  from public.bench_items
  where id = :id
) as t;
commit;
