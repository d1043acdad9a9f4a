-- What a user is to the API, and apart from that the hash of the password. The reader adds which user.
select
  json_build_object(
    'id', u.id,
    'aud', coalesce(u.aud, ''),
    'role', coalesce(u.role, ''),
    'email', coalesce(u.email, ''),
    'email_confirmed_at', u.email_confirmed_at,
    'invited_at', u.invited_at,
    'phone', coalesce(u.phone, ''),
    'phone_confirmed_at', u.phone_confirmed_at,
    'confirmation_sent_at', u.confirmation_sent_at,
    'confirmed_at', u.confirmed_at,
    'recovery_sent_at', u.recovery_sent_at,
    'new_email', nullif(u.email_change, ''),
    'email_change_sent_at', u.email_change_sent_at,
    'new_phone', nullif(u.phone_change, ''),
    'phone_change_sent_at', u.phone_change_sent_at,
    'reauthentication_sent_at', u.reauthentication_sent_at,
    'last_sign_in_at', u.last_sign_in_at,
    'app_metadata', coalesce(nullif(u.raw_app_meta_data, 'null'), '{}'),
    'user_metadata', coalesce(nullif(u.raw_user_meta_data, 'null'), '{}'),
    'factors', (
      select json_agg(
        json_build_object(
          'id', f.id,
          'created_at', f.created_at,
          'updated_at', f.updated_at,
          'status', f.status,
          'friendly_name', f.friendly_name,
          'factor_type', f.factor_type
        )
        order by f.created_at
      )
      from mfa_factors as f
      where f.user_id = u.id
    ),
    'identities', (
      select coalesce(
        json_agg(
          json_build_object(
            'identity_id', i.id,
            'id', i.provider_id,
            'user_id', i.user_id,
            'identity_data', i.identity_data,
            'provider', i.provider,
            'last_sign_in_at', i.last_sign_in_at,
            'created_at', i.created_at,
            'updated_at', i.updated_at,
            'email', i.email
          )
          order by i.created_at, i.provider
        ),
        '[]'
      )
      from identities as i
      where i.user_id = u.id
    ),
    'created_at', coalesce(u.created_at, 'epoch'),
    'updated_at', coalesce(u.updated_at, u.created_at, 'epoch'),
    'banned_until', u.banned_until,
    'deleted_at', u.deleted_at,
    'is_anonymous', u.is_anonymous,
    'banned', coalesce(u.banned_until > now(), false),
    'is_sso_user', u.is_sso_user
  ),
  nullif(u.encrypted_password, '')
from users as u
