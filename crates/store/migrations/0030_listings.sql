-- What a merchant publishes of a product beside its record: language, texts in others, external shop, options and
-- variants, as one JSON document that is always written and read whole.
CREATE TABLE product_details (
    merchant_id TEXT NOT NULL,
    product_id  TEXT NOT NULL,
    document    TEXT NOT NULL,
    PRIMARY KEY (merchant_id, product_id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

-- A variant's SKU is one product's only.
CREATE TABLE product_skus (
    merchant_id TEXT NOT NULL,
    sku         TEXT NOT NULL,
    product_id  TEXT NOT NULL,
    PRIMARY KEY (merchant_id, sku),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

CREATE INDEX product_skus_by_product ON product_skus (merchant_id, product_id);
