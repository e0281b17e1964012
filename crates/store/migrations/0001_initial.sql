-- Money is whole minor units beside its ISO 4217 code. Times are milliseconds since 1970, UTC. Every table names its
-- merchant, and references carry it along, so that no row can refer to another merchant's.

CREATE TABLE merchants (
    id TEXT NOT NULL PRIMARY KEY
);

INSERT INTO merchants (id) VALUES ('main');

CREATE TABLE lives (
    id          TEXT    NOT NULL PRIMARY KEY,
    merchant_id TEXT    NOT NULL REFERENCES merchants (id),
    title       TEXT    NOT NULL,
    public      BOOLEAN NOT NULL,
    created_at  BIGINT  NOT NULL,
    UNIQUE (merchant_id, id)
);

CREATE TABLE products (
    merchant_id  TEXT   NOT NULL REFERENCES merchants (id),
    id           TEXT   NOT NULL,
    title        TEXT   NOT NULL,
    subtitle     TEXT   NOT NULL,
    image_url    TEXT   NOT NULL,
    amount_minor BIGINT NOT NULL CHECK (amount_minor >= 0),
    currency     TEXT   NOT NULL,
    PRIMARY KEY (merchant_id, id)
);

-- What a live's host may show, in order.
CREATE TABLE bags (
    merchant_id TEXT   NOT NULL,
    live_id     TEXT   NOT NULL,
    product_id  TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    PRIMARY KEY (live_id, product_id),
    FOREIGN KEY (merchant_id, live_id) REFERENCES lives (merchant_id, id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

CREATE TABLE sales (
    merchant_id      TEXT   NOT NULL,
    live_id          TEXT   NOT NULL,
    id               TEXT   NOT NULL,
    product_id       TEXT   NOT NULL,
    unit_price_minor BIGINT NOT NULL CHECK (unit_price_minor >= 0),
    currency         TEXT   NOT NULL,
    stock            BIGINT NOT NULL CHECK (stock > 0),
    sold             BIGINT NOT NULL DEFAULT 0,
    per_buyer        BIGINT NOT NULL CHECK (per_buyer > 0),
    hold_ms          BIGINT NOT NULL,
    pay_ms           BIGINT NOT NULL,
    opens_at         BIGINT NOT NULL,
    closes_at        BIGINT NOT NULL,
    PRIMARY KEY (live_id, id),
    UNIQUE (merchant_id, live_id, id),
    FOREIGN KEY (merchant_id, live_id) REFERENCES lives (merchant_id, id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id),
    -- Whatever the gate says: nothing is sold that isn't there.
    CONSTRAINT no_oversell CHECK (sold BETWEEN 0 AND stock)
);

CREATE TABLE orders (
    id               TEXT   NOT NULL PRIMARY KEY,
    merchant_id      TEXT   NOT NULL,
    live_id          TEXT   NOT NULL,
    sale_id          TEXT   NOT NULL,
    product_id       TEXT   NOT NULL,
    -- A hold has one order, and an order one payment.
    hold_id          TEXT   NOT NULL UNIQUE,
    payment_id       TEXT   NOT NULL UNIQUE,
    provider         TEXT   NOT NULL,
    buyer_id         TEXT   NOT NULL,
    buyer_name       TEXT   NOT NULL,
    quantity         BIGINT NOT NULL CHECK (quantity > 0),
    unit_price_minor BIGINT NOT NULL CHECK (unit_price_minor >= 0),
    total_minor      BIGINT NOT NULL CHECK (total_minor >= 0),
    currency         TEXT   NOT NULL,
    state            TEXT   NOT NULL CHECK (state IN ('paying', 'sold', 'expired', 'refund_due', 'refunded')),
    created_at       BIGINT NOT NULL,
    updated_at       BIGINT NOT NULL,
    -- The first money that arrived for it: the provider's event, and how much.
    paid_event       TEXT,
    paid_minor       BIGINT,
    paid_currency    TEXT,
    UNIQUE (merchant_id, id),
    FOREIGN KEY (merchant_id, live_id, sale_id) REFERENCES sales (merchant_id, live_id, id),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

CREATE INDEX orders_by_live ON orders (live_id, created_at);
CREATE INDEX orders_by_buyer ON orders (live_id, buyer_id, created_at);
CREATE INDEX orders_by_sale ON orders (live_id, sale_id, state);

-- Every state an order was in, numbered from 1.
CREATE TABLE order_events (
    merchant_id TEXT   NOT NULL,
    order_id    TEXT   NOT NULL,
    number      BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (order_id, number),
    FOREIGN KEY (merchant_id, order_id) REFERENCES orders (merchant_id, id)
);

-- What payment providers said. A repeated delivery has the same event.
CREATE TABLE callbacks (
    provider     TEXT   NOT NULL,
    event_id     TEXT   NOT NULL,
    merchant_id  TEXT   NOT NULL REFERENCES merchants (id),
    payment_id   TEXT   NOT NULL REFERENCES orders (payment_id),
    kind         TEXT   NOT NULL CHECK (kind IN ('paid', 'failed', 'refunded')),
    amount_minor BIGINT NOT NULL,
    currency     TEXT   NOT NULL,
    received_at  BIGINT NOT NULL,
    finished     BOOLEAN NOT NULL DEFAULT FALSE,
    PRIMARY KEY (provider, event_id)
);

CREATE INDEX unfinished_callbacks ON callbacks (received_at) WHERE NOT finished;
