-- What merchants are told, where, and what came of it.

CREATE TABLE webhooks (
    id               TEXT   NOT NULL PRIMARY KEY,
    merchant_id      TEXT   NOT NULL REFERENCES merchants (id),
    url              TEXT   NOT NULL,
    -- Separated by spaces; none: all kinds.
    kinds            TEXT   NOT NULL,
    secret           TEXT   NOT NULL,
    old_secret       TEXT,
    old_secret_until BIGINT,
    disabled_at      BIGINT,
    disabled_reason  TEXT,
    created_at       BIGINT NOT NULL
);

CREATE INDEX webhooks_by_merchant ON webhooks (merchant_id, created_at);

CREATE TABLE outbox (
    id          TEXT   NOT NULL PRIMARY KEY,
    merchant_id TEXT   NOT NULL REFERENCES merchants (id),
    subject     TEXT   NOT NULL,
    -- Counts the messages about a subject, in their order.
    number      BIGINT NOT NULL,
    kind        TEXT   NOT NULL,
    body        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    UNIQUE (merchant_id, subject, number)
);

CREATE INDEX outbox_by_age ON outbox (created_at);

CREATE TABLE deliveries (
    webhook_id      TEXT   NOT NULL REFERENCES webhooks (id),
    message_id      TEXT   NOT NULL REFERENCES outbox (id),
    subject         TEXT   NOT NULL,
    number          BIGINT NOT NULL,
    state           TEXT   NOT NULL CHECK (state IN ('pending', 'done', 'failed')),
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT NOT NULL,
    status          BIGINT,
    error           TEXT,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (webhook_id, message_id)
);

CREATE INDEX deliveries_due ON deliveries (next_attempt_at) WHERE state = 'pending';
CREATE INDEX deliveries_in_order ON deliveries (webhook_id, subject, number) WHERE state = 'pending';
CREATE INDEX deliveries_by_age ON deliveries (webhook_id, created_at, message_id);
CREATE INDEX deliveries_of_message ON deliveries (message_id);
