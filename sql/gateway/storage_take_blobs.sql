-- Takes a batch of blobs no row needs any more; they stay listed unless the transaction commits. An array, because
-- the planner may run a subquery again for every row.
delete from storage.blobs_to_delete
where version = any(array(
  select version
  from storage.blobs_to_delete
  where due <= now()
  order by due
  limit $1
  for update skip locked
))
returning version
