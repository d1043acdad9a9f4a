-- Which users are on a page (the end of auth_user.sql): the page first, then what is on it, for the users left out
-- need not be put together.
where u.id in (
  select p.id
  from users as p
  where p.aud = $1
    and (
      $2 = ''
      or strpos(lower(p.email), lower($2)) > 0
      or strpos(lower(p.raw_user_meta_data ->> 'full_name'), lower($2)) > 0
    )
  order by
    case when $3 then p.created_at end,
    case when not $3 then p.created_at end desc,
    p.id
  limit $4
  offset $5
)
order by
  case when $3 then u.created_at end,
  case when not $3 then u.created_at end desc,
  u.id
