-- Whose one-time code is this, if it is right and in time? It is spent with all others of the user, and proves the
-- address. Only who deletes the row has redeemed it, so that of two at once one has.
with spent as (
  delete from one_time_tokens
  where user_id in (
    select t.user_id
    from one_time_tokens as t
    join users as u on u.id = t.user_id
    where t.token_hash in ($1, 'pkce_' || $1)
      and t.token_type = any ($2::one_time_token_type[])
      and case t.token_type
        when 'confirmation_token' then u.confirmation_sent_at
        when 'recovery_token' then u.recovery_sent_at
      end > now() - make_interval(secs => $3)
  )
  returning user_id
)
update users
set
  confirmation_token = '',
  recovery_token = '',
  email_confirmed_at = coalesce(email_confirmed_at, now()),
  raw_user_meta_data = coalesce(nullif(raw_user_meta_data, 'null'), '{}') || '{"email_verified": true}',
  updated_at = now()
where id in (select user_id from spent)
returning id, coalesce(banned_until > now(), false)
