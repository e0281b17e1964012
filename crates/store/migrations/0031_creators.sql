-- Who brings buyers, what buyers did, and what follows from orders.

CREATE TABLE creators (
    merchant_id TEXT    NOT NULL REFERENCES merchants (id),
    id          TEXT    NOT NULL,
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL CHECK (kind IN ('kol', 'koc')),
    code        TEXT    NOT NULL,
    agency_id   TEXT,
    -- As whom they watch and buy.
    buyer_id    TEXT,
    creator_bps BIGINT  CHECK (creator_bps BETWEEN 0 AND 10000),
    active      BOOLEAN NOT NULL,
    PRIMARY KEY (merchant_id, id),
    UNIQUE (merchant_id, code)
);

-- Joins, clicks and checkouts, under a creator's ref or nobody's. Only added to, and forgotten after a while.
CREATE TABLE touches (
    merchant_id TEXT   NOT NULL,
    live_id     TEXT   NOT NULL,
    kind        TEXT   NOT NULL CHECK (kind IN ('join', 'click', 'order')),
    creator_id  TEXT,
    buyer_id    TEXT,
    product_id  TEXT,
    hold_id     TEXT,
    at          BIGINT NOT NULL,
    FOREIGN KEY (merchant_id, live_id) REFERENCES lives (merchant_id, id),
    FOREIGN KEY (merchant_id, creator_id) REFERENCES creators (merchant_id, id)
);

CREATE INDEX touches_by_buyer ON touches (merchant_id, buyer_id, at);
CREATE INDEX touches_by_live ON touches (merchant_id, live_id, kind);
CREATE INDEX touches_by_creator ON touches (merchant_id, creator_id, kind) WHERE creator_id IS NOT NULL;
CREATE INDEX touches_by_age ON touches (at);

-- An order's events are what follows is done by: each is followed once.
ALTER TABLE order_events ADD COLUMN followed BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX events_to_follow ON order_events (at, order_id) WHERE NOT followed;

-- Orders that were sold, with whose doing they were and how their money is divided. In minor units; the parts sum to the
-- total, and what was taken back of them to what was refunded.
CREATE TABLE bookings (
    order_id          TEXT    NOT NULL PRIMARY KEY,
    merchant_id       TEXT    NOT NULL,
    live_id           TEXT    NOT NULL,
    product_id        TEXT    NOT NULL,
    buyer_id          TEXT    NOT NULL,
    quantity          BIGINT  NOT NULL,
    currency          TEXT    NOT NULL,
    total_minor       BIGINT  NOT NULL,
    sold_at           BIGINT  NOT NULL,
    creator_id        TEXT,
    agency_id         TEXT,
    touch_kind        TEXT,
    touch_at          BIGINT,
    merchant_minor    BIGINT  NOT NULL,
    platform_minor    BIGINT  NOT NULL,
    agency_minor      BIGINT  NOT NULL,
    creator_minor     BIGINT  NOT NULL,
    merchant_reversed BIGINT  NOT NULL DEFAULT 0,
    platform_reversed BIGINT  NOT NULL DEFAULT 0,
    agency_reversed   BIGINT  NOT NULL DEFAULT 0,
    creator_reversed  BIGINT  NOT NULL DEFAULT 0,
    -- The buyer disputes the payment: nothing of it may be paid out.
    frozen            BOOLEAN NOT NULL DEFAULT FALSE,
    FOREIGN KEY (merchant_id, order_id) REFERENCES orders (merchant_id, id),
    FOREIGN KEY (merchant_id, creator_id) REFERENCES creators (merchant_id, id),
    CONSTRAINT parts_sum CHECK (merchant_minor + platform_minor + agency_minor + creator_minor = total_minor),
    CONSTRAINT no_part_is_owed CHECK (merchant_reversed BETWEEN 0 AND merchant_minor
        AND platform_reversed BETWEEN 0 AND platform_minor AND agency_reversed BETWEEN 0 AND agency_minor
        AND creator_reversed BETWEEN 0 AND creator_minor)
);

CREATE INDEX bookings_by_buyer ON bookings (merchant_id, buyer_id, sold_at);
CREATE INDEX bookings_by_creator ON bookings (merchant_id, creator_id, sold_at) WHERE creator_id IS NOT NULL;
CREATE INDEX bookings_by_live ON bookings (merchant_id, live_id);
CREATE INDEX bookings_by_product ON bookings (merchant_id, product_id);

CREATE TABLE milestones (
    merchant_id TEXT   NOT NULL REFERENCES merchants (id),
    buyer_id    TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    order_id    TEXT   NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, buyer_id, name)
);

-- What a product wants to be followed up by.
CREATE TABLE followups (
    merchant_id TEXT   NOT NULL,
    product_id  TEXT   NOT NULL,
    position    BIGINT NOT NULL,
    name        TEXT   NOT NULL,
    after_s     BIGINT NOT NULL,
    per_unit_s  BIGINT NOT NULL,
    PRIMARY KEY (merchant_id, product_id, name),
    FOREIGN KEY (merchant_id, product_id) REFERENCES products (merchant_id, id)
);

CREATE TABLE timers (
    order_id    TEXT   NOT NULL,
    product_id  TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    merchant_id TEXT   NOT NULL,
    buyer_id    TEXT   NOT NULL,
    due_at      BIGINT NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('set', 'told', 'cancelled')),
    PRIMARY KEY (order_id, product_id, name),
    FOREIGN KEY (merchant_id, order_id) REFERENCES orders (merchant_id, id)
);

CREATE INDEX timers_due ON timers (due_at) WHERE state = 'set';

-- What merchants are to be told, in the order in which it happened; handed on to whoever delivers it.
CREATE TABLE notices (
    id          TEXT    NOT NULL PRIMARY KEY,
    merchant_id TEXT    NOT NULL REFERENCES merchants (id),
    kind        TEXT    NOT NULL,
    -- What it is about; those about one thing are delivered in order.
    subject     TEXT    NOT NULL,
    body        TEXT    NOT NULL,
    at          BIGINT  NOT NULL,
    handed_on   BOOLEAN NOT NULL DEFAULT FALSE
);

CREATE INDEX notices_by_merchant ON notices (merchant_id, id);
CREATE INDEX notices_to_hand_on ON notices (at, id) WHERE NOT handed_on;

-- Holds that were made and are not written down any more.
CREATE TABLE forgotten_holds (
    merchant_id TEXT   NOT NULL,
    live_id     TEXT   NOT NULL,
    sale_id     TEXT   NOT NULL,
    count       BIGINT NOT NULL,
    PRIMARY KEY (live_id, sale_id),
    FOREIGN KEY (merchant_id, live_id, sale_id) REFERENCES sales (merchant_id, live_id, id)
);
