-- Notices go to the outbox in the transaction that makes them: nobody hands them on later.
DROP INDEX notices_to_hand_on;
ALTER TABLE notices DROP COLUMN handed_on;

-- What lists of lives and buyers are read by.
CREATE INDEX lives_by_merchant ON lives (merchant_id, created_at, id);
