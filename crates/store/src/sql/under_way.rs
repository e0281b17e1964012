//! Which orders are under way: PAYING or REFUND_DUE, so that somebody must look after them although nobody may come.
//!
//! A list of its own, kept in the change that moves an order. An index by state would cost more than that: no other index of
//! `orders` has anything that changes when an order moves, so PostgreSQL leaves all of them as they are.

use haul_commerce::{LedgerError, NewOrder, OrderState};

use super::{change::Change, db::given};

/// Orders have come to this state.
pub(super) async fn moved(
    change: &mut Change,
    orders: impl Iterator<Item = &NewOrder>,
    to: OrderState,
) -> Result<(), LedgerError> {
    let rows: Vec<_> = orders.map(|order| (&order.id, &order.live, &order.sale)).collect();
    let is_under_way = matches!(to, OrderState::Paying | OrderState::RefundDue);
    let moved = match is_under_way {
        true => given!(
            change,
            &rows,
            "INSERT INTO under_way (order_id, live_id, sale_id)
             SELECT given.value ->> 0, given.value ->> 1, given.value ->> 2 FROM "
            " WHERE 1 = 1 ON CONFLICT (order_id) DO NOTHING"
        ),
        false => given!(
            change,
            &rows,
            "DELETE FROM under_way WHERE order_id IN (SELECT given.value ->> 0 FROM " ")"
        ),
    };
    moved.execute(change).await.map(drop)
}
