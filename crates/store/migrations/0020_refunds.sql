-- Money that goes back, sessions at payment providers, and disputes.

-- Providers say more now, and have names of their own for what they speak about. (SQLite can't change a CHECK.)
CREATE TABLE callbacks_2 (
    provider     TEXT    NOT NULL,
    event_id     TEXT    NOT NULL,
    merchant_id  TEXT    NOT NULL REFERENCES merchants (id),
    payment_id   TEXT    NOT NULL REFERENCES orders (payment_id),
    kind         TEXT    NOT NULL CHECK (kind IN ('paid', 'failed', 'refunded', 'refund_failed', 'disputed',
                                                  'dispute_won', 'dispute_lost')),
    amount_minor BIGINT  NOT NULL,
    currency     TEXT    NOT NULL,
    received_at  BIGINT  NOT NULL,
    finished     BOOLEAN NOT NULL DEFAULT FALSE,
    -- Which refund of ours it is about, and the provider's own name of the payment.
    refund_id    TEXT,
    reference    TEXT,
    PRIMARY KEY (provider, event_id)
);

INSERT INTO callbacks_2 (provider, event_id, merchant_id, payment_id, kind, amount_minor, currency, received_at, finished)
SELECT provider, event_id, merchant_id, payment_id, kind, amount_minor, currency, received_at, finished FROM callbacks;

DROP TABLE callbacks;

ALTER TABLE callbacks_2 RENAME TO callbacks;

CREATE INDEX unfinished_callbacks ON callbacks (received_at) WHERE NOT finished;
CREATE INDEX callbacks_by_payment ON callbacks (payment_id, received_at);
CREATE INDEX callbacks_by_reference ON callbacks (provider, reference) WHERE reference IS NOT NULL;

-- How much of what was paid went back: never more than that.
ALTER TABLE orders ADD COLUMN refunded_minor BIGINT NOT NULL DEFAULT 0
    CHECK (refunded_minor BETWEEN 0 AND COALESCE(paid_minor, 0));
ALTER TABLE orders ADD COLUMN dispute TEXT CHECK (dispute IN ('open', 'won', 'lost'));

-- What an event is about, where the state alone does not say it: a refund's id, for one.
ALTER TABLE order_events ADD COLUMN detail TEXT;

CREATE TABLE refunds (
    id                TEXT    NOT NULL PRIMARY KEY,
    merchant_id       TEXT    NOT NULL,
    order_id          TEXT    NOT NULL,
    payment_id        TEXT    NOT NULL,
    provider          TEXT    NOT NULL,
    -- The provider's own name of the payment that it goes back from.
    payment_reference TEXT,
    amount_minor      BIGINT  NOT NULL CHECK (amount_minor > 0),
    currency          TEXT    NOT NULL,
    origin            TEXT    NOT NULL CHECK (origin IN ('automatic', 'merchant', 'provider')),
    -- Not, where it is money that came on top of what the order was paid with.
    of_order          BOOLEAN NOT NULL,
    reason            TEXT    NOT NULL,
    state             TEXT    NOT NULL CHECK (state IN ('due', 'asked', 'done', 'failed')),
    attempts          BIGINT  NOT NULL DEFAULT 0,
    next_attempt_at   BIGINT  NOT NULL,
    -- The provider's own name of the refund.
    reference         TEXT,
    error             TEXT,
    created_at        BIGINT  NOT NULL,
    updated_at        BIGINT  NOT NULL,
    UNIQUE (merchant_id, id),
    FOREIGN KEY (merchant_id, order_id) REFERENCES orders (merchant_id, id)
);

CREATE INDEX refunds_under_way ON refunds (provider, next_attempt_at) WHERE state IN ('due', 'asked');
CREATE INDEX refunds_by_order ON refunds (order_id, created_at);

-- What had to go back, or went back, before there were rows for it.
UPDATE orders SET refunded_minor = COALESCE(paid_minor, 0) WHERE state = 'refunded';

INSERT INTO refunds (id, merchant_id, order_id, payment_id, provider, amount_minor, currency, origin, of_order, reason,
                     state, next_attempt_at, created_at, updated_at)
SELECT 'refund_' || id, merchant_id, id, payment_id, provider, paid_minor, paid_currency, 'automatic', TRUE, '',
       CASE WHEN state = 'refunded' THEN 'done' ELSE 'due' END, updated_at, updated_at, updated_at
FROM orders WHERE state IN ('refund_due', 'refunded') AND paid_minor > 0;

-- The latest session of a payment at its provider, where the provider has sessions.
CREATE TABLE checkouts (
    payment_id      TEXT    NOT NULL PRIMARY KEY REFERENCES orders (payment_id),
    merchant_id     TEXT    NOT NULL REFERENCES merchants (id),
    -- How many before it have ended.
    attempt         BIGINT  NOT NULL,
    url             TEXT    NOT NULL,
    session         TEXT,
    is_open         BOOLEAN NOT NULL,
    -- How often the provider could not be told to end it, and when it may be told again.
    failures        BIGINT  NOT NULL DEFAULT 0,
    next_attempt_at BIGINT  NOT NULL
);

CREATE INDEX open_checkouts ON checkouts (next_attempt_at) WHERE is_open;
