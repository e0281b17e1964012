//! What is counted about lives, for Prometheus.

use std::time::Duration;

use haul_commerce::{Op, OrderState, Outcome};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// Counters of all lives of this process. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    lives: Gauge,
    connections: Gauge,
    chat_dropped: Counter,
    talk_refused: Counter,
    readers_too_slow: Counter,
    gate_ops: Family<GateLabels, Counter>,
    gate_errors: Counter,
    refused_here: Counter,
    gate_seconds: Histogram,
    holds_expired: Counter,
    gate_rebuilds: Counter,
    holds_lost: Counter,
    holds_unrecorded: Counter,
    orders: Family<OrderLabels, Counter>,
    callbacks_resumed: Counter,
    rooms_owned: Gauge,
    rooms_followed: Gauge,
    room_takeovers: Counter,
    room_resets: Counter,
    room_unanswered: Counter,
    room_lag_seconds: Histogram,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GateLabels {
    op: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OrderLabels {
    state: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            lives: Gauge::default(),
            connections: Gauge::default(),
            chat_dropped: Counter::default(),
            talk_refused: Counter::default(),
            readers_too_slow: Counter::default(),
            gate_ops: Family::default(),
            gate_errors: Counter::default(),
            refused_here: Counter::default(),
            // From a call within the process to one that has timed out.
            gate_seconds: Histogram::new([
                0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
            ]),
            holds_expired: Counter::default(),
            gate_rebuilds: Counter::default(),
            holds_lost: Counter::default(),
            holds_unrecorded: Counter::default(),
            orders: Family::default(),
            callbacks_resumed: Counter::default(),
            rooms_owned: Gauge::default(),
            rooms_followed: Gauge::default(),
            room_takeovers: Counter::default(),
            room_resets: Counter::default(),
            room_unanswered: Counter::default(),
            room_lag_seconds: Histogram::new([
                0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
            ]),
        }
    }
}

impl Metrics {
    /// Makes the counters known under their names.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("haul_lives", "Lives with an owner in this process", self.lives.clone());
        registry.register("haul_channel_connections", "Open channel connections", self.connections.clone());
        registry.register("haul_rooms_owned", "Shared rooms that this server owns", self.rooms_owned.clone());
        registry.register(
            "haul_rooms_followed",
            "Shared rooms whose owner is another server",
            self.rooms_followed.clone(),
        );
        registry.register(
            "haul_room_takeovers",
            "Shared rooms that this server took over from another, which ended or stood still",
            self.room_takeovers.clone(),
        );
        registry.register(
            "haul_room_resets",
            "Times that all readers here had to come back, since what was told in a shared room is lost",
            self.room_resets.clone(),
        );
        registry.register(
            "haul_room_unanswered",
            "Requests answered with pending, since the owner of the shared room gave no answer",
            self.room_unanswered.clone(),
        );
        registry.register_with_unit(
            "haul_room_lag",
            "From an owner's telling to its hearing by another server",
            Unit::Seconds,
            self.room_lag_seconds.clone(),
        );
        registry.register(
            "haul_channel_chat_dropped",
            "Chat lines that slow readers did not get",
            self.chat_dropped.clone(),
        );
        registry.register(
            "haul_channel_talk_refused",
            "Chat lines and the like that were refused before they came to the room, being too many",
            self.talk_refused.clone(),
        );
        registry.register(
            "haul_channel_too_slow",
            "Connections closed because their reader was too slow",
            self.readers_too_slow.clone(),
        );
        registry.register(
            "haul_gate_operations",
            "What the gate was asked and answered",
            self.gate_ops.clone(),
        );
        registry.register(
            "haul_gate_errors",
            "Calls to the gate without an answer",
            self.gate_errors.clone(),
        );
        registry.register(
            "haul_gate_sold_out_answers",
            "Requests for what is sold out that were refused beside an answer of the gate's, not asked of it",
            self.refused_here.clone(),
        );
        registry.register(
            "haul_holds_expired",
            "Holds that ended by their deadline",
            self.holds_expired.clone(),
        );
        registry.register(
            "haul_gate_rebuilds",
            "Sales that the gate had lost and that were rebuilt from the ledger",
            self.gate_rebuilds.clone(),
        );
        registry.register(
            "haul_holds_lost",
            "Holds that ended because the gate had lost them",
            self.holds_lost.clone(),
        );
        registry.register(
            "haul_holds_unrecorded",
            "Holds that were not written down because the ledger did not answer for too long",
            self.holds_unrecorded.clone(),
        );
        registry.register("haul_orders", "Orders by the state they came to", self.orders.clone());
        registry.register(
            "haul_payment_callbacks_resumed",
            "Payment callbacks taken up again after a failure or a restart",
            self.callbacks_resumed.clone(),
        );
        registry.register_with_unit(
            "haul_gate",
            "Time of a call to the gate",
            Unit::Seconds,
            self.gate_seconds.clone(),
        );
    }

    pub(crate) fn live_started(&self) {
        self.lives.inc();
    }

    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    pub(crate) fn disconnected(&self) {
        self.connections.dec();
    }

    pub(crate) fn chat_dropped(&self, lines: usize) {
        self.chat_dropped.inc_by(lines as u64);
    }

    pub(crate) fn talk_refused(&self) {
        self.talk_refused.inc();
    }

    pub(crate) fn reader_too_slow(&self) {
        self.readers_too_slow.inc();
    }

    pub(crate) fn gate_answered(&self, op: &Op, outcome: &Outcome) {
        let op = match op {
            Op::Hold { .. } => "hold",
            Op::Wait { .. } => "wait",
            Op::Cancel { .. } => "cancel",
            Op::StartPayment { .. } => "start_payment",
            Op::PaymentFailed { .. } => "payment_failed",
            Op::Capture { .. } => "capture",
            Op::Settle { .. } => "settle",
            Op::Restock { .. } => "restock",
        };
        self.gate_ops.get_or_create(&GateLabels { op, outcome: outcome_name(outcome) }).inc();
    }

    pub(crate) fn refused_here(&self, requests: usize) {
        self.refused_here.inc_by(requests as u64);
    }

    pub(crate) fn gate_failed(&self) {
        self.gate_errors.inc();
    }

    pub(crate) fn gate_took(&self, time: Duration) {
        self.gate_seconds.observe(time.as_secs_f64());
    }

    pub(crate) fn holds_expired(&self, holds: usize) {
        self.holds_expired.inc_by(holds as u64);
    }

    pub(crate) fn gate_rebuilt(&self, lost: usize) {
        self.gate_rebuilds.inc();
        self.holds_lost.inc_by(lost as u64);
    }

    pub(crate) fn holds_unrecorded(&self, holds: usize) {
        self.holds_unrecorded.inc_by(holds as u64);
    }

    pub(crate) fn order_moved(&self, state: OrderState) {
        let state = match state {
            OrderState::Paying => "paying",
            OrderState::Sold => "sold",
            OrderState::Expired => "expired",
            OrderState::RefundDue => "refund_due",
            OrderState::Refunded => "refunded",
        };
        self.orders.get_or_create(&OrderLabels { state }).inc();
    }

    /// Which part this server has in a shared room: it owns it, follows another, or neither yet.
    pub(crate) fn room_part(&self, before: Option<bool>, after: Option<bool>) {
        for (part, change) in [(before, -1), (after, 1)] {
            if let Some(owns) = part {
                let gauge = if owns { &self.rooms_owned } else { &self.rooms_followed };
                gauge.inc_by(change);
            }
        }
    }

    pub(crate) fn room_taken_over(&self) {
        self.room_takeovers.inc();
    }

    pub(crate) fn room_reset(&self) {
        self.room_resets.inc();
    }

    pub(crate) fn room_unanswered(&self, requests: usize) {
        self.room_unanswered.inc_by(requests as u64);
    }

    pub(crate) fn room_lag(&self, lag: Duration) {
        self.room_lag_seconds.observe(lag.as_secs_f64());
    }

    pub(crate) fn callback_resumed(&self) {
        self.callbacks_resumed.inc();
    }
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    use haul_commerce::Refusal as R;
    match outcome {
        Outcome::Held { .. } => "held",
        Outcome::Paying { .. } => "paying",
        Outcome::Captured { retaken: false } => "captured",
        Outcome::Captured { retaken: true } => "retaken",
        Outcome::Sold => "sold",
        Outcome::Released => "released",
        Outcome::Restored { .. } => "restored",
        Outcome::Late => "late",
        Outcome::Restocked => "restocked",
        Outcome::Waiting { .. } => "waiting",
        Outcome::Entered => "entered",
        Outcome::Refused(refusal) => match refusal {
            R::UnknownSale => "unknown_sale",
            R::UnknownHold => "unknown_hold",
            R::NotOpen { .. } => "not_open",
            R::Closed => "closed",
            R::NotEnough { .. } => "not_enough",
            R::SoldOut => "sold_out",
            R::BuyerLimit { .. } => "buyer_limit",
            R::KeyReused => "key_reused",
            R::WrongState => "wrong_state",
            R::BadQuantity => "bad_quantity",
            R::UnknownLine => "unknown_line",
            R::Paused => "paused",
            R::LineFull => "line_full",
            R::NoLine => "no_line",
            R::UnknownCoupon => "unknown_coupon",
            R::CouponNotYet { .. } => "coupon_not_yet",
            R::CouponOver => "coupon_over",
            R::CouponUsedUp => "coupon_used_up",
            R::CouponLimit { .. } => "coupon_limit",
            R::OtherCoupon => "other_coupon",
            R::OneEntry => "one_entry",
        },
    }
}
