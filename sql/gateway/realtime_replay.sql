-- The last $3 messages of the private topic $1 since $2 (milliseconds), oldest first.
select last.id::text, last.event, last.payload::text, last.binary_payload
from (
  select m.id, m.event, m.payload, m.binary_payload, m.inserted_at
  from realtime.messages as m
  where m.topic = $1
    and m.extension = 'broadcast'
    and m.private
    and m.inserted_at >= timezone('utc', to_timestamp($2 / 1000.0))
  order by m.inserted_at desc
  limit $3
) as last
order by last.inserted_at
