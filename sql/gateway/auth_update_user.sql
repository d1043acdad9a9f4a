-- Changes a user: what is null stays. A first address makes an anonymous user a permanent one; an address that
-- changes takes its identity along.
with changed as (
  update users
  set
    role = coalesce($2, role),
    email = coalesce($3, email),
    email_change = case when $3 is null then email_change else '' end,
    phone = coalesce($4, phone),
    phone_change = case when $4 is null then phone_change else '' end,
    encrypted_password = coalesce($5, encrypted_password),
    email_confirmed_at = case when $6 then now() else email_confirmed_at end,
    phone_confirmed_at = case when $7 then now() else phone_confirmed_at end,
    confirmation_token = case when $6 then '' else confirmation_token end,
    raw_app_meta_data = (
      coalesce(nullif(raw_app_meta_data, 'null'), '{}')
      || case
        when $3 is null and $4 is null then '{}'
        else jsonb_build_object(
          'provider', coalesce(raw_app_meta_data ->> 'provider', case when $3 is null then 'phone' else 'email' end),
          'providers', coalesce(nullif(raw_app_meta_data -> 'providers', 'null'), '[]')
            || case
              when $3 is null or raw_app_meta_data -> 'providers' ? 'email' then '[]'
              else '["email"]'
            end::jsonb
            || case
              when $4 is null or raw_app_meta_data -> 'providers' ? 'phone' then '[]'
              else '["phone"]'
            end::jsonb
        )
      end
      || coalesce($8, '{}')
    ) - array(select key from jsonb_each($8) where value = 'null'),
    raw_user_meta_data = (
      coalesce(nullif(raw_user_meta_data, 'null'), '{}')
      || case when $6 then '{"email_verified": true}' else '{}' end::jsonb
      || case
        when $3 is not null and raw_user_meta_data ? 'email' then jsonb_build_object('email', $3)
        else '{}'
      end
      || coalesce($9, '{}')
    ) - array(select key from jsonb_each($9) where value = 'null'),
    -- 0 seconds lift a ban
    banned_until = case
      when $10 is null then banned_until
      when $10 > 0 then now() + make_interval(secs => $10)
    end,
    is_anonymous = is_anonymous and $3 is null and $4 is null,
    updated_at = now()
  where id = $1
  returning id
), moved as (
  insert into identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
  select
    changed.id::text,
    changed.id,
    jsonb_build_object(
      'sub', changed.id,
      address.provider, address.value,
      'email_verified', false,
      'phone_verified', false
    ),
    address.provider,
    now(),
    now(),
    now()
  from changed
  cross join (values ('email', $3), ('phone', $4)) as address (provider, value)
  where address.value is not null
  on conflict (provider_id, provider) do update
  set
    identity_data = identities.identity_data || jsonb_build_object(excluded.provider, excluded.identity_data -> excluded.provider),
    updated_at = now()
)
select from changed
