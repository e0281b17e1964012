//! Money that goes back, and disputes, as buyer and host hear of them.

use haul_commerce::{Order, OrderState};
use haul_room::{Key, Lane};
use haul_wire::Event;

use super::{Stage, To, answers::order_view};

impl Stage {
    /// The buyer and the host hear of an order that is where it was, but for money or a dispute; the sums follow.
    pub(super) fn order_changed(&mut self, order: Order, refunded_minor: i64) {
        // Otherwise what went back only grows.
        let came_back = refunded_minor < 0;
        if !came_back && self.is_old_news(&order) {
            return;
        }
        let order = Order { returned: self.with_what_is_known(order.clone()).returned, ..order };
        let known = self.orders.iter().position(|known| known.order.id == order.order.id);
        // What came late and was written down first says more already.
        let is_older = |known: &Order| {
            (known.refunded_minor, known.updated_at) > (order.refunded_minor, order.updated_at)
        };
        if order.state == OrderState::Sold {
            let currency = order.order.total.currency;
            if let Some(sum) = self.totals.revenue.iter_mut().find(|sum| sum.currency == currency) {
                sum.amount_minor = sum.amount_minor.saturating_sub(refunded_minor);
            }
        }
        if !came_back && known.is_some_and(|index| is_older(&self.orders[index])) {
            return;
        }
        let view = order_view(&order);
        let key = Key::Order(order.order.id.clone());
        self.tell_buyer(&order.order.buyer, key.clone(), &Event::OrderChanged { order: view.clone() });
        let line = self.room.line(&Event::HostOrder { order: view, totals: self.totals.clone() });
        self.deliver(To::Staff, Lane::Commerce, Some(key), line);
        if let Some(index) = known {
            if self.orders[index].state != order.state {
                self.outputs.push_back(super::Output::OrderNews(order.state));
            }
            self.orders[index] = order;
        }
    }
}
