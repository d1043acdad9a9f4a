-- Makes a bucket. Returns nothing, so that a caller needs no right to see buckets.
insert into storage.buckets (id, name, owner, owner_id, public, file_size_limit, allowed_mime_types)
values ($1, $2, $3, $4, $5, $6, $7)
