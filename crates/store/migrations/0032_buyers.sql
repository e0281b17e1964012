-- Products that are sold elsewhere; nothing of them can be held here.
ALTER TABLE product_details ADD COLUMN external BOOLEAN NOT NULL DEFAULT FALSE;

-- What buyers want to hear of.
CREATE TABLE saved_products (
    merchant_id TEXT   NOT NULL,
    product_id  TEXT   NOT NULL,
    buyer_id    TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, product_id, buyer_id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

CREATE INDEX saved_by_buyer ON saved_products (merchant_id, buyer_id, at);

-- Whether a saved product could be bought when that was looked at last: who saved it is told when that turns true.
CREATE TABLE stock_seen (
    merchant_id TEXT    NOT NULL,
    product_id  TEXT    NOT NULL,
    in_stock    BOOLEAN NOT NULL,
    PRIMARY KEY (merchant_id, product_id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

-- Whom and where to, as a JSON document that can be erased; what shipping and taxes were part of the total, which stays.
CREATE TABLE order_details (
    order_id    TEXT   NOT NULL PRIMARY KEY,
    merchant_id TEXT   NOT NULL,
    personal    TEXT,
    charges     TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    FOREIGN KEY (merchant_id, order_id) REFERENCES orders (merchant_id, id)
);

CREATE INDEX details_by_age ON order_details (at) WHERE personal IS NOT NULL;

CREATE TABLE erased_buyers (
    merchant_id TEXT   NOT NULL REFERENCES merchants (id),
    buyer_id    TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, buyer_id)
);

CREATE INDEX orders_by_merchants_buyer ON orders (merchant_id, buyer_id, created_at);
