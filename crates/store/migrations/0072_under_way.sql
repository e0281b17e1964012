-- Orders that somebody must look after, apart from the others: with their state in an index of `orders`, PostgreSQL writes a
-- new entry in each of its indexes whenever one moves.
CREATE TABLE under_way (
    order_id TEXT NOT NULL PRIMARY KEY,
    live_id  TEXT NOT NULL,
    sale_id  TEXT NOT NULL
);
CREATE INDEX under_way_by_sale ON under_way (live_id, sale_id);
INSERT INTO under_way (order_id, live_id, sale_id)
    SELECT id, live_id, sale_id FROM orders WHERE state IN ('paying', 'refund_due');
DROP INDEX orders_under_way;
DROP INDEX orders_by_sale;
CREATE INDEX orders_by_sale ON orders (live_id, sale_id);
