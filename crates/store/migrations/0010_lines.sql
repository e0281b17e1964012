-- Several SKUs in one sale and one order, units that are added to a sale, and units that come back.

ALTER TABLE sales ADD COLUMN variant_id TEXT;
ALTER TABLE sales ADD COLUMN paused BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE sales ADD COLUMN mode TEXT NOT NULL DEFAULT 'hold_in_cart';
-- For which tiers it opens earlier, by how many milliseconds: tier=ms joined by commas.
ALTER TABLE sales ADD COLUMN early TEXT NOT NULL DEFAULT '';

-- The lines of a sale after the first, which is in sales.
CREATE TABLE sale_lines (
    merchant_id      TEXT   NOT NULL,
    live_id          TEXT   NOT NULL,
    sale_id          TEXT   NOT NULL,
    line             BIGINT NOT NULL CHECK (line > 0),
    product_id       TEXT   NOT NULL,
    variant_id       TEXT,
    unit_price_minor BIGINT NOT NULL CHECK (unit_price_minor >= 0),
    currency         TEXT   NOT NULL,
    stock            BIGINT NOT NULL CHECK (stock > 0),
    sold             BIGINT NOT NULL DEFAULT 0,
    per_buyer        BIGINT NOT NULL CHECK (per_buyer > 0),
    PRIMARY KEY (live_id, sale_id, line),
    FOREIGN KEY (merchant_id, live_id, sale_id) REFERENCES sales (merchant_id, live_id, id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id),
    -- Whatever the gate says: nothing is sold that isn't there.
    CONSTRAINT no_oversell_of_a_line CHECK (sold BETWEEN 0 AND stock)
);

-- Units that were added to a sale, each once.
CREATE TABLE stock_changes (
    merchant_id TEXT   NOT NULL,
    live_id     TEXT   NOT NULL,
    sale_id     TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    line        BIGINT NOT NULL,
    units       BIGINT NOT NULL CHECK (units > 0),
    at          BIGINT NOT NULL,
    PRIMARY KEY (live_id, sale_id, key),
    FOREIGN KEY (merchant_id, live_id, sale_id) REFERENCES sales (merchant_id, live_id, id)
);

-- What was bought, line by line. Totals are stored, never recomputed.
CREATE TABLE order_lines (
    merchant_id      TEXT   NOT NULL,
    order_id         TEXT   NOT NULL,
    line             BIGINT NOT NULL,
    product_id       TEXT   NOT NULL,
    variant_id       TEXT,
    quantity         BIGINT NOT NULL CHECK (quantity > 0),
    unit_price_minor BIGINT NOT NULL CHECK (unit_price_minor >= 0),
    total_minor      BIGINT NOT NULL CHECK (total_minor >= 0),
    currency         TEXT   NOT NULL,
    PRIMARY KEY (order_id, line),
    FOREIGN KEY (merchant_id, order_id) REFERENCES orders (merchant_id, id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

INSERT INTO order_lines (merchant_id, order_id, line, product_id, quantity, unit_price_minor, total_minor, currency)
SELECT merchant_id, id, 0, product_id, quantity, unit_price_minor, total_minor, currency FROM orders;

CREATE INDEX order_lines_by_product ON order_lines (merchant_id, product_id);

-- Units by line (0:1+3:2) where they are not of line 0 alone; quantity is their sum.
ALTER TABLE orders ADD COLUMN units TEXT;
ALTER TABLE orders ADD COLUMN variant_id TEXT;
-- Units that were sold and are on the shelf again, written likewise; and whether the gate knows.
ALTER TABLE orders ADD COLUMN returned TEXT;
ALTER TABLE orders ADD COLUMN returned_told BOOLEAN NOT NULL DEFAULT TRUE;

CREATE INDEX orders_returned ON orders (live_id) WHERE NOT returned_told;

-- Each time that units came back, once.
CREATE TABLE restocks (
    merchant_id TEXT   NOT NULL,
    order_id    TEXT   NOT NULL,
    key         TEXT   NOT NULL,
    units       TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (order_id, key),
    FOREIGN KEY (merchant_id, order_id) REFERENCES orders (merchant_id, id)
);

-- How long an offer to somebody in line stands; NULL: there is no line.
ALTER TABLE sales ADD COLUMN offer_ms BIGINT;

-- Holds of several lines, that wait in line, set nothing aside, or have come back. Made anew, since what a state may be
-- cannot be altered everywhere.
ALTER TABLE holds RENAME TO holds_before;
DROP INDEX holds_over;

CREATE TABLE holds (
    merchant_id TEXT    NOT NULL,
    live_id     TEXT    NOT NULL,
    sale_id     TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    buyer_id    TEXT    NOT NULL,
    -- Of all lines; units says of which, where it is not line 0 alone.
    quantity    BIGINT  NOT NULL CHECK (quantity > 0),
    made        BIGINT  NOT NULL,
    state       TEXT    NOT NULL
        CHECK (state IN ('held', 'paying', 'captured', 'sold', 'waiting', 'released', 'late')),
    deadline    BIGINT  NOT NULL,
    order_id    TEXT,
    extended    BOOLEAN NOT NULL,
    retaken     BOOLEAN NOT NULL,
    epoch       BIGINT  NOT NULL,
    sequence    BIGINT  NOT NULL,
    units       TEXT,
    unreserved  BOOLEAN NOT NULL DEFAULT FALSE,
    returned    TEXT,
    PRIMARY KEY (live_id, sale_id, id),
    FOREIGN KEY (merchant_id, live_id, sale_id) REFERENCES sales (merchant_id, live_id, id)
);

INSERT INTO holds (merchant_id, live_id, sale_id, id, buyer_id, quantity, made, state, deadline, order_id, extended,
                   retaken, epoch, sequence)
SELECT merchant_id, live_id, sale_id, id, buyer_id, quantity, made, state, deadline, order_id, extended, retaken, epoch,
       sequence
FROM holds_before;

DROP TABLE holds_before;

CREATE INDEX holds_over ON holds (live_id, deadline) WHERE state = 'released' AND order_id IS NULL;
