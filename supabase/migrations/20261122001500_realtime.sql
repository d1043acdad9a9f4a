-- Realtime: clients may subscribe to changes of these tables. Adding a table twice is an error, hence the look first.

do $$
declare
  wanted text;
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;

  foreach wanted in array array['chat_sessions', 'chat_messages', 'chat_typing_indicators'] loop
    if not exists (
      select from pg_publication_tables as t
      where t.pubname = 'supabase_realtime' and t.schemaname = 'public' and t.tablename = wanted
    ) then
      execute format('alter publication supabase_realtime add table public.%I', wanted);
    end if;
  end loop;
end
$$;
