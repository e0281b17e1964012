-- What a live's room remembers from one start to the next: rules, measures against people, the moderation log, as JSON.
CREATE TABLE room_notes (
    merchant_id TEXT NOT NULL,
    live_id TEXT NOT NULL REFERENCES lives (id),
    name TEXT NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (live_id, name)
);
