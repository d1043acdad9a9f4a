-- What a presented refresh token gets: a child, the token already active, or nothing and the end of its family.
-- The session is held (auth_refresh_lock.sql), so nothing here can change meanwhile.
with presented as (
  select token, revoked, updated_at, session_id, user_id, instance_id
  from refresh_tokens
  where token = $1
), active as (
  select newest.token, newest.parent
  from refresh_tokens as newest
  join presented using (session_id)
  where newest.revoked is not true
  order by newest.id desc
  limit 1
), verdict as (
  select
    case
      when presented.revoked is not true then 'rotate'
      -- the answer with the child was lost on its way
      when active.parent = presented.token then 'repeat'
      when clock_timestamp() <= presented.updated_at + make_interval(secs => $3) then 'rotate'
      else 'reused'
    end as says
  from presented
  left join active on true
), revoked as (
  update refresh_tokens
  set revoked = true, updated_at = clock_timestamp()
  from presented, verdict
  where refresh_tokens.session_id = presented.session_id
    and refresh_tokens.revoked is not true
    and (verdict.says = 'reused' or verdict.says = 'rotate' and refresh_tokens.token = presented.token)
), child as (
  insert into refresh_tokens (instance_id, token, user_id, session_id, parent, revoked, created_at, updated_at)
  select instance_id, $2, user_id, session_id, token, false, clock_timestamp(), clock_timestamp()
  from presented, verdict
  where verdict.says = 'rotate'
  returning token
), refreshed as (
  update sessions
  set refreshed_at = now() at time zone 'utc', updated_at = now(), user_agent = $4, ip = $5::inet
  from presented, verdict
  where sessions.id = presented.session_id
    and verdict.says <> 'reused'
), forgotten as (
  delete from refresh_tokens as old
  using presented
  where old.session_id = presented.session_id
    and old.token <> presented.token
    and old.revoked
    and old.updated_at < now() - interval '24 hours'
)
select
  case verdict.says
    when 'rotate' then (select token from child)
    when 'repeat' then (select token from active)
  end,
  verdict.says = 'repeat'
from verdict
