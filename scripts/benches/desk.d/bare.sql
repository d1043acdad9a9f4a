-- The yardstick: one small row, one transaction.
insert into bench.bare (note) values ('one row, one transaction');
