-- Signs a user in: a session, how it was begun, and the first refresh token of its family. Nothing, if he was banned
-- or the password that was compared ($7) is no longer his: its change ended his sessions, and this would be one more.
with signed_in as (
  update users
  set last_sign_in_at = now(), updated_at = now()
  where id = $1
    and ($7::text is null or encrypted_password = $7)
    and (banned_until is null or banned_until <= now())
  returning id
), session as (
  insert into sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
  select $2, id, now(), now(), 'aal1', $3, $4::inet
  from signed_in
  returning id, user_id
), method as (
  insert into mfa_amr_claims (id, session_id, authentication_method, created_at, updated_at)
  select gen_random_uuid(), id, $5, now(), now()
  from session
)
insert into refresh_tokens (instance_id, token, user_id, session_id, revoked, created_at, updated_at)
select '00000000-0000-0000-0000-000000000000', $6, user_id, id, false, now(), now()
from session
