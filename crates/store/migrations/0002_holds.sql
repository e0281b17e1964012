-- What the gate has said, so that it can be rebuilt where it has lost it.

-- How far the gate's history of a sale is written down. A gate that is behind this has lost something.
ALTER TABLE sales ADD COLUMN gate_epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN gate_sequence BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sales ADD COLUMN gate_clock BIGINT NOT NULL DEFAULT 0;

-- A sale with orders was known to its gate.
UPDATE sales SET gate_epoch = 1, gate_sequence = 1
WHERE EXISTS (SELECT 1 FROM orders WHERE orders.live_id = sales.live_id AND orders.sale_id = sales.id);

-- Holds as the gate last told them, a few milliseconds behind it. epoch and sequence: at which point of its history.
CREATE TABLE holds (
    merchant_id TEXT    NOT NULL,
    live_id     TEXT    NOT NULL,
    sale_id     TEXT    NOT NULL,
    id          TEXT    NOT NULL,
    buyer_id    TEXT    NOT NULL,
    quantity    BIGINT  NOT NULL CHECK (quantity > 0),
    made        BIGINT  NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('held', 'paying', 'captured', 'sold', 'released', 'late')),
    deadline    BIGINT  NOT NULL,
    order_id    TEXT,
    extended    BOOLEAN NOT NULL,
    retaken     BOOLEAN NOT NULL,
    epoch       BIGINT  NOT NULL,
    sequence    BIGINT  NOT NULL,
    PRIMARY KEY (live_id, sale_id, id),
    FOREIGN KEY (merchant_id, live_id, sale_id) REFERENCES sales (merchant_id, live_id, id)
);

-- What may be forgotten.
CREATE INDEX holds_over ON holds (live_id, deadline) WHERE state = 'released' AND order_id IS NULL;
