-- Makes an object; a taken key is an error. Returns nothing, so that a caller needs no right to read it.
insert into storage.objects (id, bucket_id, name, version, owner, owner_id, metadata, user_metadata)
values ($1, $2, $3, $4, $5, $6, $7, $8)
