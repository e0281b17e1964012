//! Orders as the stage knows them: the last ones, in the state that was heard of them last.

use haul_commerce::{Order, OrderState, Outcome};
use haul_model::{Now, SaleId};
use haul_room::{Key, Lane};
use haul_wire::{Event, Failure, HoldState, HoldView, Reply};

use super::{
    MAX_ORDERS_SHOWN, Stage,
    answers::{self, hold_view, order_view},
    messages::{CheckedOut, MemberId, Output, To},
};

impl Stage {
    pub(super) fn checked_out(
        &mut self,
        member: MemberId,
        id: u64,
        sale: SaleId,
        answer: Result<CheckedOut, Failure>,
        now: Now,
    ) {
        match answer {
            Err(failure) => self.fail(member, id, &failure),
            Ok(CheckedOut { order, pay_url, deadline }) => {
                let hold = HoldView {
                    id: order.order.hold.clone(),
                    sale_id: sale,
                    quantity: order.order.quantity,
                    lines: answers::line_units(&order.order.units()),
                    state: HoldState::Paying,
                    deadline: Some(deadline),
                    position: None,
                    coupon: order.order.coupon.as_ref().map(|coupon| coupon.code.clone()),
                };
                let reply = Reply::Checkout {
                    order: order_view(&order),
                    hold,
                    pay_url,
                    server_time: self.clock.now(now),
                };
                self.reply(member, id, &reply);
                self.remember_order(order);
            }
        }
    }

    /// The buyer and the host hear of an order. `hold`: where its hold stands, if that changed too.
    pub(super) fn order_moved(&mut self, order: Order, hold: Option<Outcome>) {
        if self.is_old_news(&order) {
            return;
        }
        let order = self.with_what_is_known(order);
        let buyer = order.order.buyer.clone();
        if let Some(hold) = hold.and_then(|outcome| {
            let ids = &order.order;
            let coupon = ids.coupon.as_ref().map(|coupon| coupon.code.clone());
            hold_view(ids.hold.clone(), ids.sale.clone(), &ids.units(), coupon, &outcome)
        }) {
            self.tell_buyer(&buyer, Key::Hold(hold.id.clone()), &Event::HoldChanged { hold });
        }
        let event = Event::OrderChanged { order: order_view(&order) };
        self.tell_buyer(&buyer, Key::Order(order.order.id.clone()), &event);
        self.remember_order(order);
    }

    /// An order as it was read, with what is known of it already: words on it may overtake each other, and what went back, money
    /// or units, only grows.
    pub(super) fn with_what_is_known(&self, mut order: Order) -> Order {
        let Some(known) = self.orders.iter().find(|known| known.order.id == order.order.id) else {
            return order;
        };
        order.refunded_minor = order.refunded_minor.max(known.refunded_minor);
        order.returned = match (order.returned, &known.returned) {
            (Some(returned), Some(known)) => Some(returned.most(known)),
            (returned, known) => returned.or_else(|| known.clone()),
        };
        if known.updated_at > order.updated_at {
            order.dispute = known.dispute;
        }
        order
    }

    /// Keeps the order for the host's list and sums, and tells the host if it is news.
    pub(super) fn remember_order(&mut self, order: Order) {
        let known = self.orders.iter().position(|known| known.order.id == order.order.id);
        let before = known.map(|index| self.orders[index].state);
        let returned = known.is_some_and(|index| self.orders[index].returned != order.returned);
        if before == Some(order.state) && !returned || self.is_old_news(&order) {
            return;
        }
        if before != Some(order.state) {
            self.outputs.push_back(Output::OrderNews(order.state));
        }
        if order.state == OrderState::Sold && before != Some(OrderState::Sold) {
            for member in self.members.values_mut() {
                if member.viewer.as_ref().is_some_and(|viewer| viewer.id == order.order.buyer) {
                    member.bought += 1;
                }
            }
            self.totals.orders += 1;
            self.totals.units += u64::from(order.order.quantity);
            let total = order.order.total;
            match self.totals.revenue.iter_mut().find(|sum| sum.currency == total.currency) {
                Some(sum) => sum.amount_minor = sum.amount_minor.saturating_add(total.amount_minor),
                None => self.totals.revenue.push(total),
            }
        }
        let event = Event::HostOrder { order: order_view(&order), totals: self.totals.clone() };
        let line = self.room.line(&event);
        self.deliver(To::Staff, Lane::Commerce, Some(Key::Order(order.order.id.clone())), line);
        match known {
            Some(index) => self.orders[index] = order,
            None => {
                self.orders.push_front(order);
                self.orders.truncate(MAX_ORDERS_SHOWN);
            }
        }
    }

    /// Whether more is known of the order already: words on it may overtake each other.
    pub(super) fn is_old_news(&self, order: &Order) -> bool {
        let progress = |state| match state {
            OrderState::Paying => 0,
            OrderState::Expired => 1,
            OrderState::Sold | OrderState::RefundDue => 2,
            OrderState::Refunded => 3,
        };
        let known = self.orders.iter().find(|known| known.order.id == order.order.id);
        known.is_some_and(|known| progress(order.state) < progress(known.state))
    }
}
