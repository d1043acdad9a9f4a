-- A table as far as its changes' readers need it: its primary key's columns, and whether rows have policies.
select
  coalesce(
    (
      select array_agg(attribute.attname::text order by key.number)
      from pg_catalog.pg_index as index
      cross join unnest(index.indkey) with ordinality as key (attnum, number)
      join pg_catalog.pg_attribute as attribute
        on attribute.attrelid = index.indrelid and attribute.attnum = key.attnum
      where index.indrelid = class.oid
        and index.indisprimary
    ),
    '{}'
  ) as primary_key,
  class.relrowsecurity as row_security
from pg_catalog.pg_class as class
where class.oid = $1
