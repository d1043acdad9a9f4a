-- Becomes the caller for the rest of the transaction: role $1, topic $2, claims $3, user $4, headers $5.
select
  set_config('realtime.topic', $2, true),
  set_config('request.jwt.claims', $3, true),
  set_config('request.jwt.claim.sub', $4, true),
  set_config('request.jwt.claim.role', $1, true),
  set_config('request.headers', $5, true),
  set_config('role', $1, true)
