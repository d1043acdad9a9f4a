-- Who presents this refresh token, and may the session go on? Holds the session until the transaction ends: whoever
-- rotates tokens of a session holds it first, so that two tabs take turns.
select
  s.id,
  s.user_id,
  coalesce(s.not_after <= now(), false),
  coalesce(u.banned_until > now(), false)
from refresh_tokens as t
join sessions as s on s.id = t.session_id
join users as u on u.id = s.user_id
where t.token = $1
for update of s
