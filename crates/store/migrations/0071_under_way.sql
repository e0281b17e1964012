-- Every server looks now and then for lives that another has left in the midst of something.
CREATE INDEX orders_under_way ON orders (live_id) WHERE state IN ('paying', 'refund_due');
CREATE INDEX sales_by_close ON sales (closes_at);
