-- Coupons of a live, what orders use of them, and sales that are drawn.

CREATE TABLE coupons (
    merchant_id   TEXT    NOT NULL,
    live_id       TEXT    NOT NULL,
    code          TEXT    NOT NULL,
    -- Either takes off so many minor units, or so many hundredths.
    amount_minor  BIGINT,
    percent       BIGINT  CHECK (percent BETWEEN 1 AND 100),
    currency      TEXT    NOT NULL,
    minimum_minor BIGINT  NOT NULL,
    -- For this sale alone, for these products alone (joined by spaces); NULL and empty: for all.
    sale_id       TEXT,
    products      TEXT    NOT NULL,
    uses          BIGINT  NOT NULL,
    per_buyer     BIGINT  NOT NULL,
    valid_from    BIGINT  NOT NULL,
    valid_until   BIGINT  NOT NULL,
    closed        BOOLEAN NOT NULL DEFAULT FALSE,
    created_at    BIGINT  NOT NULL,
    -- Uses of orders that are being paid or sold.
    used          BIGINT  NOT NULL DEFAULT 0,
    PRIMARY KEY (live_id, code),
    UNIQUE (merchant_id, live_id, code),
    FOREIGN KEY (merchant_id, live_id) REFERENCES lives (merchant_id, id),
    CHECK ((amount_minor IS NULL) <> (percent IS NULL)),
    -- Whatever the gate says: it is used no more often than it may be.
    CONSTRAINT no_overuse CHECK (used BETWEEN 0 AND uses)
);

-- What an order's coupon takes off the sum of its lines; stored, never recomputed.
ALTER TABLE orders ADD COLUMN coupon TEXT;
ALTER TABLE orders ADD COLUMN coupon_minor BIGINT;
CREATE INDEX orders_by_coupon ON orders (live_id, coupon, buyer_id) WHERE coupon IS NOT NULL;

ALTER TABLE holds ADD COLUMN coupon TEXT;

-- How long requests are gathered before it is drawn, and the secret that decides; NULL: it is not drawn.
ALTER TABLE sales ADD COLUMN draw_ms BIGINT;
ALTER TABLE sales ADD COLUMN draw_seed TEXT;
