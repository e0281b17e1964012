-- Who changed what. Rows are added, and never changed.
CREATE TABLE audit (
    id          TEXT   NOT NULL PRIMARY KEY,
    merchant_id TEXT   NOT NULL REFERENCES merchants (id),
    at          BIGINT NOT NULL,
    role        TEXT   NOT NULL,
    actor       TEXT   NOT NULL,
    action      TEXT   NOT NULL,
    target      TEXT   NOT NULL,
    live_id     TEXT,
    address     TEXT
);

CREATE INDEX audit_by_merchant ON audit (merchant_id, id);
