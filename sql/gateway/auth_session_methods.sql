-- How a session's user proved who he is, the newest first, as the claim `amr` says it.
select coalesce(
  json_agg(
    json_build_object(
      'method', authentication_method,
      'timestamp', extract(epoch from updated_at)::bigint
    )
    order by updated_at desc
  ),
  '[]'
)
from mfa_amr_claims
where session_id = $1
