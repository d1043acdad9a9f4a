-- The buckets the caller may see, searched by name, sorted by a column of choice.
select *, type::text as kind
from storage.buckets
where $1::text is null
  or strpos(lower(name), lower($1)) > 0
order by
  case when $3 then null when $2 = 'created_at' then created_at when $2 = 'updated_at' then updated_at end,
  case when $3 and $2 = 'created_at' then created_at when $3 and $2 = 'updated_at' then updated_at end desc,
  case when $3 then null when $2 = 'id' then id else name end,
  case when $2 = 'id' then id else name end desc
limit $4
offset $5
