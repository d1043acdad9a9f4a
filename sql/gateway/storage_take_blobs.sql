-- Takes a batch of blobs no row needs any more; they stay listed unless the transaction commits.
delete from storage.blobs_to_delete
where version in (
  select version
  from storage.blobs_to_delete
  where due <= now()
  order by due
  limit $1
  for update skip locked
)
returning version
