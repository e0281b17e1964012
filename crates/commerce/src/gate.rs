//! The gate: stock and holds, atomic and durable. It decides; everything else asks.

use std::{fmt, future::Future, pin::Pin};

use haul_model::{BuyerId, CouponCode, HoldId, LiveId, MerchantId, OrderId, SaleId, TierId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{
    CouponTerms, SaleTerms,
    hold::HoldRecord,
    units::{Line, Units},
};

/// A future that a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Which live's stock: the gate's unit of atomicity and of placement (one hash slot).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LiveRef {
    /// Whose live.
    pub merchant: MerchantId,
    /// Which live.
    pub live: LiveId,
}

/// A point in a sale's history at the gate; of two, the later is the greater. The default is before everything: nothing
/// has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mark {
    /// How often the sale was put to the gate or rebuilt there, counted from 1.
    pub epoch: u64,
    /// Counts the sale's changes.
    pub sequence: u64,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

/// One thing asked of the gate. All are idempotent: asked again, each gives the same answer and changes nothing more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Set units aside, all of them or none. `hold` is derived from the buyer and their idempotency key, so a retry names the
    /// same hold.
    Hold {
        /// The hold to make.
        hold: HoldId,
        /// Who asks.
        buyer: BuyerId,
        /// Units, at least 1 of each line that is named.
        units: Units,
        /// The buyer's tier, as their token says: the sale may open earlier for it.
        tier: Option<TierId>,
        /// The coupon of which a use is set aside with the units.
        coupon: Option<CouponCode>,
        /// In a sale that is drawn, the hold's ticket: before the draw it is an entry, of one line and without a coupon.
        ticket: Option<u64>,
    },
    /// The same, and where that is refused because units are set aside for others, wait in line for them. Of one line
    /// only.
    Wait {
        /// The hold to make.
        hold: HoldId,
        /// Who asks.
        buyer: BuyerId,
        /// Units of one line, at least 1.
        units: Units,
        /// The buyer's tier, as their token says.
        tier: Option<TierId>,
    },
    /// Give a hold up, or one's place in line (HELD, PAYING or WAITING → RELEASED).
    Cancel {
        /// Which hold.
        hold: HoldId,
        /// Who asks; must be its buyer.
        buyer: BuyerId,
    },
    /// The buyer goes to pay (HELD → PAYING); extends the deadline once.
    StartPayment {
        /// Which hold.
        hold: HoldId,
        /// Who asks; must be its buyer.
        buyer: BuyerId,
        /// The order that will be paid. A hold has one order; another is refused.
        order: OrderId,
        /// The coupon of which a use is set aside, where the hold has none yet: with its first payment only.
        coupon: Option<CouponCode>,
    },
    /// The provider refused the payment (PAYING → HELD, until its deadline).
    PaymentFailed {
        /// Which hold.
        hold: HoldId,
        /// For which order.
        order: OrderId,
    },
    /// The provider has the money (PAYING or HELD → CAPTURED; RELEASED → taken again if stock is left, else late).
    Capture {
        /// Which hold.
        hold: HoldId,
        /// For which order.
        order: OrderId,
    },
    /// The ledger has committed the sale (CAPTURED → SOLD).
    Settle {
        /// Which hold.
        hold: HoldId,
        /// For which order.
        order: OrderId,
    },
    /// Units that were sold are on the shelf again (sold − 1, available + 1), as the ledger has written down.
    Restock {
        /// Which hold.
        hold: HoldId,
        /// For which order.
        order: OrderId,
        /// All of its units that have come back so far: said again, it changes nothing.
        returned: Units,
    },
}

impl Op {
    /// [`Op::Hold`] of somebody without a tier.
    pub fn hold(hold: HoldId, buyer: BuyerId, units: impl Into<Units>) -> Self {
        Self::Hold { hold, buyer, units: units.into(), tier: None, coupon: None, ticket: None }
    }
}

/// The answer to one [`Op`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// `Hold`: the units are set aside until `deadline`. Also the answer to a retry while the hold stands.
    Held {
        /// When they go back, by the gate's clock.
        deadline: UnixMillis,
    },
    /// `Wait`: in line. When it is its turn, the hold is HELD, and reported as offered.
    Waiting {
        /// How many are served before it, and it: 1 is next.
        position: u32,
    },
    /// `Hold` in a sale that is drawn later: one of its entries.
    Entered,
    /// `Hold` retried, or `StartPayment`: the hold is being paid for.
    Paying {
        /// When they go back, by the gate's clock.
        deadline: UnixMillis,
    },
    /// `Capture`, or a retry of an earlier step: the money is there, the ledger is not yet written.
    Captured {
        /// Whether the units had been released and were taken again.
        retaken: bool,
    },
    /// `Settle`, or a retry of an earlier step: sold.
    Sold,
    /// `Cancel`, or any step on a hold that is over: the units went back.
    Released,
    /// `PaymentFailed`: held again until `deadline`.
    Restored {
        /// When they go back, by the gate's clock.
        deadline: UnixMillis,
    },
    /// `Capture`: no unit is left. The money must go back.
    Late,
    /// `Restock`: at least so many units of the hold are on the shelf again.
    Restocked,
    /// Not done.
    Refused(Refusal),
}

/// Why the gate did not do it. Each has a stable code on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The gate has no such sale.
    UnknownSale,
    /// The sale has no such hold, or it is another buyer's.
    UnknownHold,
    /// Too early, by the gate's clock.
    NotOpen {
        /// When it opens.
        opens_at: UnixMillis,
    },
    /// Too late, by the gate's clock.
    Closed,
    /// Fewer units are available than asked for, but some are held and may come back.
    NotEnough {
        /// The first line of which there are too few.
        line: Line,
        /// Its units available now.
        available: u32,
    },
    /// Of a line that is asked for, nothing is available and nothing is held: all sold.
    SoldOut,
    /// The buyer would have more of a line than the sale allows one buyer.
    BuyerLimit {
        /// The first such line.
        line: Line,
        /// What is allowed of it.
        per_buyer: u32,
    },
    /// The hold exists with another buyer or quantity, or is paid for by another order: a key was used twice.
    KeyReused,
    /// The step makes no sense in the hold's state (settling what was never captured).
    WrongState,
    /// A quantity is 0, or more than a sale may have, or than was sold.
    BadQuantity,
    /// The sale has no such line.
    UnknownLine,
    /// Nothing is sold for the moment.
    Paused,
    /// As many are in line as may be.
    LineFull,
    /// The sale has no line to wait in.
    NoLine,
    /// The gate has no such coupon.
    UnknownCoupon,
    /// The coupon is not valid yet, by the gate's clock.
    CouponNotYet {
        /// When it will be.
        valid_from: UnixMillis,
    },
    /// The coupon is not valid any more.
    CouponOver,
    /// As many use the coupon as may.
    CouponUsedUp,
    /// The buyer uses the coupon as often as one may.
    CouponLimit {
        /// How often that is.
        per_buyer: u32,
    },
    /// The hold has another coupon, or payment has begun without one.
    OtherCoupon,
    /// The buyer is in the draw already, or has something of the sale.
    OneEntry,
}

/// Units of a sale, or of one of its lines, by where they are. `available + held + sold = stock`, always; `held` counts HELD, PAYING, CAPTURED.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Free to be held.
    pub available: u32,
    /// Set aside.
    pub held: u32,
    /// Settled.
    pub sold: u32,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} available, {} held, {} sold", self.available, self.held, self.sold)
    }
}

/// A hold whose units went back because its deadline passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Which hold.
    pub hold: HoldId,
    /// Whose it was.
    pub buyer: BuyerId,
    /// Its units.
    pub units: Units,
    /// Its order, if payment had started.
    pub order: Option<OrderId>,
}

/// A hold whose turn in line has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offered {
    /// Which hold.
    pub hold: HoldId,
    /// Whose it is.
    pub buyer: BuyerId,
    /// Units set aside.
    pub units: Units,
    /// Until when it can be taken up.
    pub deadline: UnixMillis,
}

/// A hold that stands, as [`Gate::standing`] tells it: HELD, PAYING, CAPTURED or WAITING.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Which hold.
    pub hold: HoldId,
    /// Its units.
    pub units: Units,
    /// `Held`, `Paying`, `Captured` or `Waiting`, as a retry of the hold would be answered.
    pub outcome: Outcome,
    /// Its order, once payment has started.
    pub order: Option<OrderId>,
    /// The coupon of which it has a use.
    pub coupon: Option<CouponCode>,
}

/// What a batch did to one sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The gate's clock when it decided: what everybody calls server time.
    pub now: UnixMillis,
    /// Where the sale's history is after this batch; a reader who has seen a later one ignores this batch's `counts`.
    pub mark: Mark,
    /// One for each op, in order.
    pub outcomes: Vec<Outcome>,
    /// Holds that this call found past their deadline. Each is reported by exactly one call.
    pub released: Vec<Released>,
    /// Holds whose turn in line has come: HELD now, each until its deadline. Each is reported by exactly one call.
    pub offered: Vec<Offered>,
    /// Every hold that this call changed, or that its operations named, as it is now; by id. Whoever writes these down
    /// has written down all that anybody was told.
    pub holds: Vec<HoldRecord>,
    /// The sale afterwards, all lines together.
    pub counts: Counts,
    /// The same for each line, where there are several.
    pub lines: Vec<Counts>,
    /// When to sweep next, if at all: the earliest deadline of a standing hold, or when those in line must hear something.
    pub next_deadline: Option<UnixMillis>,
}

/// Why a call to the gate gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The store can't be reached, and nothing was done. Retry later.
    #[error("the stock store cannot be reached: {0}")]
    Unavailable(String),
    /// The request may or may not have been carried out. Ask again with the same ids: the answer then is the truth.
    #[error("the stock store did not answer in time: {0}")]
    Unknown(String),
    /// The gate is behind what was seen of it, or is being rebuilt: it has lost something. Nothing was done. Rebuild it,
    /// and ask again.
    #[error("the stock store has lost something: it is at {at}")]
    Stale {
        /// How far the gate is.
        at: Mark,
    },
    /// The gate's clock is ahead of what it can show (see [`Pace`](crate::Pace)). Nothing was done: holds would have ended
    /// before their time. Ask again later.
    #[error("the stock store's clock has jumped: it is {ahead_ms} ms ahead")]
    ClockJumped {
        /// By how many milliseconds.
        ahead_ms: u64,
    },
    /// The store answered something impossible. A defect, or somebody else writes to it.
    #[error("the stock store is corrupt: {0}")]
    Corrupt(String),
}

/// What became of a wish to rebuild a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rebuild {
    /// The sale is empty and frozen, and whoever asked may rebuild it as this epoch.
    Begun {
        /// The sale's new epoch.
        epoch: u64,
    },
    /// Somebody else was at it a moment ago ([`TAKEOVER_MS`](crate::book::TAKEOVER_MS)). Ask again later.
    Busy,
    /// The gate is not behind (any more).
    NotNeeded,
}

/// What a sale is rebuilt from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The epoch that [`Gate::begin_rebuild`] gave.
    pub epoch: u64,
    /// The gate's clock was here before; it does not go back.
    pub clock: UnixMillis,
    /// The sale's terms.
    pub terms: SaleTerms,
    /// All its holds, as they stand.
    pub holds: Vec<HoldRecord>,
}

impl Image {
    /// Whether its holds fit the stock, line by line.
    pub fn check(&self) -> Result<(), GateError> {
        let stock: Vec<u64> = self.terms.lines().map(|line| u64::from(line.stock)).collect();
        let mut units = vec![0_u64; stock.len()];
        for (line, quantity) in
            self.holds.iter().filter(|record| record.takes_units()).flat_map(HoldRecord::kept)
        {
            match units.get_mut(usize::from(line)) {
                Some(units) => *units += u64::from(quantity),
                None => {
                    return Err(GateError::Corrupt(format!("an image with units of a line {line} of none")));
                }
            }
        }
        if let Some((units, stock)) = units.iter().zip(&stock).find(|(units, stock)| units > stock) {
            return Err(GateError::Corrupt(format!("an image with {units} of {stock} units held and sold")));
        }
        Ok(())
    }
}

/// Stock and holds of every live.
///
/// `seen` is the latest [`Mark`] that the caller, or the ledger, has seen of the sale. A gate that is behind it has lost
/// something (an old copy was restored, a failover lost writes) and refuses with [`GateError::Stale`].
pub trait Gate: Send + Sync + 'static {
    /// Makes a sale known, or changes what may change of a known one ([`SaleTerms::changed_to`]). Idempotent.
    fn put_sale<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        terms: &'a SaleTerms,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Applied, GateError>>;

    /// Makes coupons of a live known, or changes what may change of known ones ([`CouponTerms::changed_to`]). Idempotent. A gate
    /// that has lost them refuses their use until it is told again.
    fn put_coupons<'a>(
        &'a self,
        live: &'a LiveRef,
        coupons: &'a [(CouponCode, CouponTerms)],
    ) -> BoxFuture<'a, Result<(), GateError>>;

    /// Carries out `ops` on one sale in order, atomically as a whole. An empty slice sweeps due holds and reports.
    fn apply<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        ops: &'a [Op],
        seen: Mark,
    ) -> BoxFuture<'a, Result<Applied, GateError>>;

    /// A buyer's standing holds in one sale, oldest first (at most as many as the sale allows one buyer): what a buyer
    /// who comes back, perhaps to another process, must see again, and what checkout needs to know of a hold.
    fn standing<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        buyer: &'a BuyerId,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Vec<Standing>, GateError>>;

    /// Empties and freezes a sale that is behind `seen`, to be rebuilt: until [`Gate::rebuild`] is done, every call on it
    /// is refused as `Stale`. Of several who ask, one gets it.
    fn begin_rebuild<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        seen: Mark,
    ) -> BoxFuture<'a, Result<Rebuild, GateError>>;

    /// Puts everything back and lets the sale go on, as the epoch of `image`. Idempotent. `Stale` where somebody else
    /// has taken over in the meantime.
    fn rebuild<'a>(
        &'a self,
        live: &'a LiveRef,
        sale: &'a SaleId,
        image: &'a Image,
    ) -> BoxFuture<'a, Result<Applied, GateError>>;

    /// The gate's clock.
    fn now(&self) -> BoxFuture<'_, Result<UnixMillis, GateError>>;

    /// Which connection to the gate this is. Where it changes, the gate may be another one than before, or the same with
    /// an older memory: whoever shares it with other processes looks up how far they have seen it.
    fn connection(&self) -> u64 {
        0
    }
}
