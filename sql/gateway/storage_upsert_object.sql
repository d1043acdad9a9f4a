-- Makes an object or gives an existing one new bytes and a new owner; its id and its time of creation stay.
insert into storage.objects (id, bucket_id, name, version, owner, owner_id, metadata, user_metadata)
values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (bucket_id, name) do update
set version = excluded.version,
    owner = excluded.owner,
    owner_id = excluded.owner_id,
    metadata = excluded.metadata,
    user_metadata = excluded.user_metadata
returning *
