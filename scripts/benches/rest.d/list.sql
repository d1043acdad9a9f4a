-- Fifty rows with the group that each belongs to, the latest first.
\set user random(0, 99)
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
  select i.id, i.name, i.amount, row_to_json(g.*)::json as "group"
  from public.bench_items as i
  left join lateral (
    select bench_groups.name
    from public.bench_groups
    where bench_groups.id = i.group_id
  ) as g on true
  order by i.id desc
  limit 50
) as t;
commit;
