-- What the list of a merchant's refunds is read by.
CREATE INDEX refunds_by_merchant ON refunds (merchant_id, created_at, id);
