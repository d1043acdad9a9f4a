-- Deletes some of a bucket's objects.
delete from storage.objects
where id = any(array(
  select id
  from storage.objects
  where bucket_id = $1
  limit $2
))
