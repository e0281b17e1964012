//! A hold: units of a sale on their way to one buyer.

use haul_model::{BuyerId, CouponCode, HoldId, OrderId, UnixMillis, millis};
use serde::{Deserialize, Serialize};

use crate::{
    Outcome,
    book::{KEEP_ORDERED_MS, KEEP_RELEASED_MS},
    draw::TICKETS,
    units::{Line, Units},
};

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Set aside until its deadline.
    Held,
    /// Its buyer is at the payment provider; set aside until its deadline.
    Paying,
    /// Paid; the ledger is not yet written. Has no deadline.
    Captured,
    /// Paid and written.
    Sold,
    /// In line: its units are all set aside for others, and it is its turn when enough of them come back. Or an entry that is
    /// not drawn yet.
    Waiting,
    /// Over: its units went back.
    Released,
    /// Over, and paid afterwards when its units could not be had again.
    Late,
}

impl HoldState {
    /// Whether a deadline ends it.
    pub fn has_deadline(self) -> bool {
        matches!(self, HoldState::Held | HoldState::Paying)
    }

    /// Whether it goes on for its buyer: it has not ended in one way or another.
    pub fn stands(self) -> bool {
        matches!(self, HoldState::Held | HoldState::Paying | HoldState::Captured | HoldState::Waiting)
    }

    /// Whether it is over, without a sale.
    pub fn is_over(self) -> bool {
        matches!(self, HoldState::Released | HoldState::Late)
    }
}

/// A hold as the book keeps it and as it is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldRecord {
    /// Its id.
    pub hold: HoldId,
    /// Whose it is.
    pub buyer: BuyerId,
    /// Units, by line.
    #[serde(rename = "quantity")]
    pub units: Units,
    /// The book's sequence when it was made: which of a buyer's holds is older. Of an entry in a draw, its ticket.
    pub made: u64,
    /// Where it stands.
    pub state: HoldState,
    /// When it ends while it is HELD or PAYING; its last deadline once it is paid; when it ended once it is
    /// RELEASED or LATE; when it came while it is WAITING.
    #[serde(with = "millis")]
    pub deadline: UnixMillis,
    /// The order that it is paid by, from the first step that names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<OrderId>,
    /// Whether payment has extended the deadline, which it does once.
    #[serde(default)]
    pub extended: bool,
    /// Whether it was released and its units were taken again when the money came.
    #[serde(default)]
    pub retaken: bool,
    /// Whether nothing is set aside for it until it is paid: the sale is one of first paid, first served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unreserved: bool,
    /// Units of it that were sold and have come back since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Units>,
    /// The coupon of which it has a use, for as long as it stands, and for good once it is SOLD.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coupon: Option<CouponCode>,
}

impl HoldRecord {
    /// What a retry of `Hold` is answered; `position`: where it is in line, if it is.
    pub(crate) fn outcome(&self, position: u32) -> Outcome {
        let &Self { deadline, retaken, .. } = self;
        match self.state {
            HoldState::Held => Outcome::Held { deadline },
            HoldState::Paying => Outcome::Paying { deadline },
            HoldState::Captured => Outcome::Captured { retaken },
            HoldState::Sold => Outcome::Sold,
            HoldState::Waiting if self.is_entry() => Outcome::Entered,
            HoldState::Waiting => Outcome::Waiting { position },
            HoldState::Released | HoldState::Late => Outcome::Released,
        }
    }

    pub(crate) fn is_due(&self, now: UnixMillis) -> bool {
        self.ends_at().is_some_and(|deadline| deadline <= now)
    }

    /// When it ends by itself, if it does.
    pub(crate) fn ends_at(&self) -> Option<UnixMillis> {
        self.state.has_deadline().then_some(self.deadline)
    }

    /// When it may be forgotten, once it is over.
    pub(crate) fn forget_at(&self) -> Option<UnixMillis> {
        let keep_ms = if self.order.is_some() { KEEP_ORDERED_MS } else { KEEP_RELEASED_MS };
        self.state.is_over().then(|| UnixMillis(self.deadline.0.saturating_add(keep_ms)))
    }

    /// Whether it is, or was, an entry in a draw.
    pub fn is_entry(&self) -> bool {
        TICKETS.contains(&self.made)
    }

    /// Whether its units are set aside for its buyer.
    pub fn is_aside(&self) -> bool {
        self.state.stands() && self.state != HoldState::Waiting && !self.unreserved
    }

    /// Whether it takes units of the stock: they are set aside, or sold.
    pub fn takes_units(&self) -> bool {
        self.is_aside() || self.state == HoldState::Sold
    }

    /// Whether it counts towards its buyer's limit.
    pub fn counts_for_buyer(&self) -> bool {
        self.state.stands() || self.state == HoldState::Sold
    }

    /// Its units by line, without those that have come back.
    pub fn kept(&self) -> impl Iterator<Item = (Line, u32)> + '_ {
        self.units.iter().map(|(line, quantity)| {
            let back = self.returned.as_ref().map_or(0, |returned| returned.of(line));
            (line, quantity.saturating_sub(back))
        })
    }
}
