-- Merchants' API keys, and answers to requests that may be asked again.

CREATE TABLE api_keys (
    id          TEXT   NOT NULL PRIMARY KEY,
    merchant_id TEXT   NOT NULL REFERENCES merchants (id),
    name        TEXT   NOT NULL,
    -- Separated by spaces.
    scopes      TEXT   NOT NULL,
    -- SHA-256 of the key's text.
    hash        TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    revoked_at  BIGINT
);

CREATE INDEX api_keys_by_merchant ON api_keys (merchant_id, created_at);

CREATE TABLE requests (
    merchant_id  TEXT    NOT NULL REFERENCES merchants (id),
    actor        TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    -- A hash over method, path and body.
    request      TEXT    NOT NULL,
    begun_at     BIGINT  NOT NULL,
    -- None of these while it is being carried out.
    status       BIGINT,
    content_type TEXT,
    body         TEXT,
    PRIMARY KEY (merchant_id, actor, key)
);

CREATE INDEX requests_by_age ON requests (begun_at);

CREATE INDEX orders_by_merchant ON orders (merchant_id, created_at, id);
