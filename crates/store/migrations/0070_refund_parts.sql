-- Which lines of an order a refund is of.

-- What has gone back of a line; those of an order's lines sum to the order's.
ALTER TABLE order_lines ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0 CHECK (refunded_minor >= 0);
-- line:amount joined by +, as it was asked for, then as it went; NULL while nothing is said: in proportion.
ALTER TABLE refunds ADD COLUMN parts TEXT;

-- What went back before is of all lines in proportion to their prices.
UPDATE order_lines SET refunded_minor = COALESCE(
    (SELECT orders.refunded_minor FROM orders WHERE orders.id = order_lines.order_id)
        * (SELECT CAST(SUM(upto.total_minor) AS BIGINT) FROM order_lines AS upto
           WHERE upto.order_id = order_lines.order_id AND upto.line <= order_lines.line)
        / (SELECT NULLIF(CAST(SUM(whole.total_minor) AS BIGINT), 0) FROM order_lines AS whole
           WHERE whole.order_id = order_lines.order_id)
    - (SELECT orders.refunded_minor FROM orders WHERE orders.id = order_lines.order_id)
        * (SELECT CAST(SUM(upto.total_minor) AS BIGINT) - order_lines.total_minor FROM order_lines AS upto
           WHERE upto.order_id = order_lines.order_id AND upto.line <= order_lines.line)
        / (SELECT NULLIF(CAST(SUM(whole.total_minor) AS BIGINT), 0) FROM order_lines AS whole
           WHERE whole.order_id = order_lines.order_id), 0)
WHERE order_id IN (SELECT id FROM orders WHERE refunded_minor > 0);
