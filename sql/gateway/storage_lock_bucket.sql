-- Keeps uploads out of a bucket until the transaction ends, and says whether it is empty.
select not exists (select from storage.objects where bucket_id = bucket.id) as empty
from storage.buckets as bucket
where id = $1
for update
