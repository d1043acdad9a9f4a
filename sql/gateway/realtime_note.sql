-- What became of channels: the subscriptions of $1 have ended, and those of $2 for good; the others are at the places
-- $6, $7 (null: where they were), some of them without their client ($4), whose last message had the number $5. Those of
-- the gateway $8 that are not named have had everything before $9.
with ended as (
  delete from realtime.subscription
  where subscription_id = any($1)
), gone as (
  delete from realtime.resumable
  where id = any($2)
), delivered as (
  update realtime.gateway
  set delivered = $9::pg_lsn
  where name = $8
)
update realtime.resumable as r
set lost_at = case when news.lost then now() end,
    last_ref = news.last_ref,
    commit = coalesce(news.commit::pg_lsn, r.commit),
    change = coalesce(news.change, r.change)
from unnest($3::uuid[], $4::boolean[], $5::bigint[], $6::text[], $7::bigint[])
  as news (id, lost, last_ref, commit, change)
where r.id = news.id
