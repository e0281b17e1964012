-- A saved product is back in stock, and this buyer is not told of it yet.
ALTER TABLE saved_products ADD COLUMN to_tell BOOLEAN NOT NULL DEFAULT FALSE;

CREATE INDEX saved_to_tell ON saved_products (merchant_id, product_id, buyer_id) WHERE to_tell;
