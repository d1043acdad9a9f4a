-- Gives a user a one-time code in place of an earlier one of its kind; $4 tells that it invites him.
with told as (
  update users
  set
    confirmation_token = case when $2 = 'confirmation_token' then $3 else confirmation_token end,
    confirmation_sent_at = case when $2 = 'confirmation_token' then now() else confirmation_sent_at end,
    recovery_token = case when $2 = 'recovery_token' then $3 else recovery_token end,
    recovery_sent_at = case when $2 = 'recovery_token' then now() else recovery_sent_at end,
    invited_at = case when $4 then now() else invited_at end,
    updated_at = now()
  where id = $1
  returning id, email
)
insert into one_time_tokens (id, user_id, token_type, token_hash, relates_to)
select gen_random_uuid(), id, $2::one_time_token_type, $3, email
from told
on conflict (user_id, token_type) do update
set
  token_hash = excluded.token_hash,
  relates_to = excluded.relates_to,
  created_at = excluded.created_at,
  updated_at = excluded.updated_at
