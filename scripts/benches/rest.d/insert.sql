-- A new row, which is given back.
\set user random(0, 99)
\set amount random(0, 999)
begin;
select set_config('search_path', '"public", "extensions"', true),
  set_config('role', 'authenticated', true),
  set_config('request.jwt.claims', '{"role":"authenticated","sub":"' || public.bench_user(:user) || '"}', true),
  set_config('request.method', 'POST', true),
  set_config('request.path', '/bench_notes', true),
  set_config('request.headers', '{}', true),
  set_config('request.cookies', '{}', true);
with made as (
  insert into public.bench_notes (name, amount)
  values ('a note', :amount)
  returning *
)
select count(*)::text, coalesce(json_agg(made), '[]')::text
from made;
commit;
