-- Creates a user, with an identity for each address. A taken address is the constraint's to refuse.
with created as (
  insert into users (
    instance_id, id, aud, role, email, phone, encrypted_password, email_confirmed_at, phone_confirmed_at,
    raw_app_meta_data, raw_user_meta_data, banned_until, is_anonymous, created_at, updated_at,
    -- empty, not null: other programs that read this table cannot do without
    confirmation_token, recovery_token, email_change_token_new, email_change
  )
  values (
    '00000000-0000-0000-0000-000000000000', $1, $2, $3, $4, $5, $6,
    case when $7 then now() end,
    case when $8 then now() end,
    $9, $10,
    now() + make_interval(secs => $11),
    $4::text is null and $5::text is null, now(), now(),
    '', '', '', ''
  )
  returning id, email, phone
)
insert into identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
select
  created.id::text,
  created.id,
  $12 || jsonb_build_object(
    'sub', created.id,
    address.provider, address.value,
    'email_verified', false,
    'phone_verified', false
  ),
  address.provider,
  now(),
  now(),
  now()
from created
cross join lateral (values ('email', created.email), ('phone', created.phone)) as address (provider, value)
where address.value is not null
