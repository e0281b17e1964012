-- Names in orders are forgotten with contacts when they are too old; those that still have one are found by their age.
CREATE INDEX orders_named ON orders (created_at) WHERE buyer_name <> '';
