-- Whether changes of what policies read can be streamed, and every change of definitions is told in the stream.
select
  current_setting('server_version_num')::int >= 150000
  and exists (
    select
    from pg_catalog.pg_publication
    where pubname = 'switchboard_policies'
      and pubinsert
      and pubupdate
      and pubdelete
      and pubtruncate
      and not puballtables
  )
  and (
    select count(*) = 2
    from pg_catalog.pg_event_trigger
    where evtname in ('switchboard_ddl', 'switchboard_drop')
      and evtenabled = 'A'
      and evttags is null
      and evtfoid = to_regproc('realtime.tell_ddl')
  )
