-- Writes down who did what.
insert into audit_log_entries (instance_id, id, payload, created_at, ip_address)
values (
  '00000000-0000-0000-0000-000000000000',
  gen_random_uuid(),
  json_strip_nulls(
    json_build_object(
      'action', $1::text,
      'actor_id', $2::uuid,
      'actor_username', $3::text,
      'actor_via_sso', $4::boolean,
      'log_type', $5::text,
      'traits', $6::json
    )
  ),
  now(),
  coalesce($7, '')
)
