-- Makes a user unrecognisable and unable to sign in, and keeps the row for what refers to it.
with gone as (
  update users
  set
    email = encode(sha256(convert_to(id || email, 'utf8')), 'hex'),
    phone = left(encode(sha256(convert_to(id || phone, 'utf8')), 'hex'), 15),
    encrypted_password = null,
    confirmation_token = '',
    recovery_token = '',
    email_change = '',
    email_change_token_new = '',
    email_change_token_current = '',
    phone_change = '',
    phone_change_token = '',
    reauthentication_token = '',
    raw_app_meta_data = '{}',
    raw_user_meta_data = '{}',
    deleted_at = now(),
    updated_at = now()
  where id = $1
    and deleted_at is null
  returning id
), identities_gone as (
  update identities
  set
    provider_id = encode(sha256(convert_to(identities.id || identities.provider_id, 'utf8')), 'hex'),
    identity_data = '{}',
    updated_at = now()
  from gone
  where identities.user_id = gone.id
), factors_gone as (
  delete from mfa_factors
  using gone
  where mfa_factors.user_id = gone.id
), tokens_gone as (
  delete from one_time_tokens
  using gone
  where one_time_tokens.user_id = gone.id
)
delete from sessions
using gone
where sessions.user_id = gone.id
