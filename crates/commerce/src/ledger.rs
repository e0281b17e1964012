//! The ledger: what must never be forgotten. An order is sold only when the ledger has committed it.

use haul_model::{
    BuyerId, CouponCode, HoldId, LiveId, MerchantId, Money, OrderId, PaymentId, ProductId, SaleId,
    UnixMillis, VariantId,
};

use crate::{
    BoxFuture, Coupon, CouponTerms, Dispute, LiveRef, Mark, OrderCoupon, PaymentEvent, Sale, SaleMove, Units,
    book::HoldRecord, buyers::Details, units::Line,
};

/// A live as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveRecord {
    /// Its id.
    pub id: LiveId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// What viewers read above the picture.
    pub title: String,
    /// Whether it may be watched without a token.
    pub public: bool,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// A product in a merchant's catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Its id, unique to the merchant.
    pub id: ProductId,
    /// Whose it is.
    pub merchant: MerchantId,
    /// What it is called.
    pub title: String,
    /// One line more.
    pub subtitle: String,
    /// A picture: an absolute URL or a path on this server; empty where there is none.
    pub image_url: String,
    /// The price outside of sales.
    pub list_price: Money,
}

/// Buyers of whom is asked together in [`Ledger::bought`].
pub const MAX_BUYERS: usize = 256;

/// What a buyer has bought.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bought {
    /// Their orders in the live, newest first.
    pub orders: Vec<Order>,
    /// How many SOLD orders they have with the merchant, in all its lives, that they kept something of: whose money did not
    /// all go back, nor is lost by a dispute. What badges go by.
    pub kept: u32,
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// The buyer is at the payment provider.
    Paying,
    /// Paid and committed.
    Sold,
    /// Nobody paid in time, or the buyer gave up.
    Expired,
    /// Paid, but the units were gone: the money must go back.
    RefundDue,
    /// The money went back.
    Refunded,
}

/// What is committed before the provider is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// Its id.
    pub id: OrderId,
    /// Its payment at the provider.
    pub payment: PaymentId,
    /// The provider's name.
    pub provider: String,
    /// Whose sale.
    pub merchant: MerchantId,
    /// In which live.
    pub live: LiveId,
    /// Of which sale.
    pub sale: SaleId,
    /// What was bought, or the first of it.
    pub product: ProductId,
    /// What it pays for. One order a hold.
    pub hold: HoldId,
    /// Who buys.
    pub buyer: BuyerId,
    /// The name shown to the host.
    pub buyer_name: String,
    /// Units of all lines.
    pub quantity: u32,
    /// Price of one of the first line.
    pub unit_price: Money,
    /// Price of all, less what the coupon takes off; stored, never recomputed.
    pub total: Money,
    /// The coupon that it is paid with.
    pub coupon: Option<OrderCoupon>,
    /// What was bought, line by line; at least one.
    pub lines: Vec<OrderLine>,
    /// When.
    pub created_at: UnixMillis,
}

impl NewOrder {
    /// Its units, by the sale's lines.
    pub fn units(&self) -> Units {
        Units::new(self.lines.iter().map(|line| (line.line, line.quantity)))
            .unwrap_or_else(|_| Units::from(self.quantity))
    }
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderLine {
    /// Which of the sale's lines.
    pub line: Line,
    /// The product.
    pub product: ProductId,
    /// Which form of it, where there are several.
    pub variant: Option<VariantId>,
    /// Units.
    pub quantity: u32,
    /// Price of one.
    pub unit_price: Money,
    /// Price of all of them; stored, never recomputed.
    pub total: Money,
}

impl OrderLine {
    /// The only line of an order in a sale of one product.
    pub fn only(product: ProductId, quantity: u32, unit_price: Money, total: Money) -> Self {
        Self { line: 0, product, variant: None, quantity, unit_price, total }
    }
}

/// An order as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// As it was made.
    pub order: NewOrder,
    /// Where it stands.
    pub state: OrderState,
    /// The first payment that arrived for it, whatever became of the order. Money of any other event goes back.
    pub paid: Option<Paid>,
    /// Units of it that were sold and are on the shelf again.
    pub returned: Option<Units>,
    /// How much of that went back. A SOLD order stays SOLD: its units are the buyer's until they are restocked.
    pub refunded_minor: i64,
    /// Whether the buyer disputes the payment, and how that ended.
    pub dispute: Option<Dispute>,
    /// When it came to its state.
    pub updated_at: UnixMillis,
}

impl Order {
    /// What it is said to be. Its units are the buyer's while it is SOLD, whatever became of the money.
    pub fn standing(&self) -> Standing {
        match self.state {
            OrderState::Paying => Standing::Paying,
            OrderState::Sold if self.refunded_minor >= self.order.total.amount_minor => Standing::Refunded,
            OrderState::Sold if self.refunded_minor > 0 => Standing::PartlyRefunded,
            OrderState::Sold => Standing::Sold,
            OrderState::Expired => Standing::Expired,
            OrderState::RefundDue => Standing::RefundDue,
            OrderState::Refunded => Standing::Refunded,
        }
    }

    /// Its units of a line that have not come back.
    pub fn kept(&self, line: &OrderLine) -> u32 {
        line.quantity.saturating_sub(self.returned.as_ref().map_or(0, |returned| returned.of(line.line)))
    }
}

/// An order's state together with what became of its money, as everybody reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// The buyer is at the payment provider.
    Paying,
    /// Paid and confirmed.
    Sold,
    /// Nobody paid in time.
    Expired,
    /// It was paid, and buys nothing: the money goes back.
    RefundDue,
    /// It is sold, and a part of the money went back.
    PartlyRefunded,
    /// The money went back.
    Refunded,
}

impl Standing {
    /// All there are.
    pub const ALL: [Self; 6] =
        [Self::Paying, Self::Sold, Self::Expired, Self::RefundDue, Self::PartlyRefunded, Self::Refunded];

    /// Its name wherever merchants read it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paying => "paying",
            Self::Sold => "sold",
            Self::Expired => "expired",
            Self::RefundDue => "refund_due",
            Self::PartlyRefunded => "partly_refunded",
            Self::Refunded => "refunded",
        }
    }
}

/// Money that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paid {
    /// The provider's event that said so.
    pub event: String,
    /// How much.
    pub amount: Money,
}

/// A provider's callback, recorded before it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Which provider.
    pub provider: String,
    /// What it said.
    pub event: PaymentEvent,
    /// When it arrived.
    pub received_at: UnixMillis,
}

/// What recording a callback found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallbackState {
    /// First seen: carry it out.
    New,
    /// Seen before, not carried out to the end: carry it out.
    Unfinished,
    /// Carried out before: nothing is left to do.
    Done,
}

/// What the gate has said of a sale since it was last written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldNotes {
    /// In which live.
    pub live: LiveId,
    /// Of which sale.
    pub sale: SaleId,
    /// How far the sale's history is.
    pub mark: Mark,
    /// The gate's clock then.
    pub clock: UnixMillis,
    /// Holds, each as it was at a mark.
    pub holds: Vec<(Mark, HoldRecord)>,
}

/// All that the ledger knows of a sale that concerns its gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// How far the gate's history is written down.
    pub mark: Mark,
    /// The gate's clock then.
    pub clock: UnixMillis,
    /// The sale.
    pub sale: Sale,
    /// Units of each line that are counted as sold; lines at the end may be missing where none are.
    pub sold: Vec<u32>,
    /// Its holds as they were last written down.
    pub holds: Vec<HoldRecord>,
    /// All its orders.
    pub orders: Vec<Order>,
}

/// A coupon and how often it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CouponUse {
    /// The coupon.
    pub coupon: Coupon,
    /// Uses of orders that are being paid.
    pub paying: u64,
    /// Uses of orders that are SOLD.
    pub sold: u64,
    /// The ledger's own counter, which its constraint keeps within the limit; what the two amount to.
    pub counted: u64,
}

/// Sums of a live's orders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Orders sold.
    pub orders: u64,
    /// Units sold.
    pub units: u64,
    /// Their totals by currency, less what went back.
    pub revenue: Vec<Money>,
}

/// Why the ledger gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The database can't be reached or is busy. Retry.
    #[error("the ledger cannot be reached: {0}")]
    Unavailable(String),
    /// A rule of the ledger forbids it: a sale would be oversold, an id is another merchant's. A defect upstream.
    #[error("the ledger refuses: {0}")]
    Conflict(String),
    /// No such row for this merchant.
    #[error("not found: {0}")]
    NotFound(String),
}

/// Shorthand for the ledger's answers.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, LedgerError>>;

/// Lives, products, sales, orders, callbacks. Every query names its merchant, or a live (unique on a server, which has
/// one merchant) or an order that does.
pub trait Ledger: Send + Sync + 'static {
    /// Creates a live, or returns the one that has its id. `Conflict` where that is another merchant's.
    fn ensure_live<'a>(&'a self, live: &'a LiveRecord) -> Answer<'a, LiveRecord>;
    /// Changes a live's title and visibility, and returns it. `NotFound` where there is no such live.
    fn put_live<'a>(&'a self, live: &'a LiveRecord) -> Answer<'a, LiveRecord>;
    /// The live, if there is one.
    fn live<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Option<LiveRecord>>;
    /// Lives of all merchants that somebody must look after although nobody may come: with a sale that closes after `now`,
    /// or an order in Paying or RefundDue. At most `limit`.
    fn unsettled_lives(&self, now: UnixMillis, limit: u32) -> Answer<'_, Vec<LiveRecord>>;
    /// A merchant's lives, newest first, those behind `after` (when it was made, and its id) in the list, at most `limit`.
    fn lives<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a (UnixMillis, LiveId)>,
        limit: u32,
    ) -> Answer<'a, Vec<LiveRecord>>;

    /// Creates or changes a product.
    fn put_product<'a>(&'a self, product: &'a Product) -> Answer<'a, ()>;
    /// Puts a product at the end of a live's bag, if it is not in it.
    fn add_to_bag<'a>(&'a self, live: &'a LiveId, product: &'a ProductId) -> Answer<'a, ()>;
    /// Takes a product out of a live's bag.
    fn remove_from_bag<'a>(&'a self, live: &'a LiveId, product: &'a ProductId) -> Answer<'a, ()>;
    /// A live's products in the bag's order.
    fn bag<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<Product>>;

    /// Writes a sale down; the same id again changes its times, and whether it is paused.
    fn put_sale<'a>(&'a self, sale: &'a Sale) -> Answer<'a, ()>;
    /// Changes what may change of a sale, and gives it as it is then. `NotFound` where there is no such sale.
    fn move_sale<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId, to: &'a SaleMove) -> Answer<'a, Sale>;
    /// A sale, if there is one of that id.
    fn sale<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Option<Sale>>;
    /// Writes a sale down if there is none of its id, and gives the one that there is then.
    fn make_sale<'a>(&'a self, sale: &'a Sale) -> Answer<'a, Sale>;
    /// Adds units to a line of a sale, unless that was done before under this `key`. Gives the sale as it is then.
    fn add_stock<'a>(
        &'a self,
        live: &'a LiveId,
        sale: &'a SaleId,
        key: &'a str,
        line: Line,
        units: u32,
        at: UnixMillis,
    ) -> Answer<'a, Sale>;
    /// How far the gate's history of a sale is written down: a gate that is behind this has lost something.
    fn gate_mark<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Mark>;
    /// What a gate that has lost the sale is rebuilt from.
    fn recorded<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId) -> Answer<'a, Recorded>;
    /// Writes down what the gate has said, in one transaction. What is older than what is written changes nothing.
    fn record_holds<'a>(&'a self, notes: &'a [HoldNotes]) -> Answer<'a, ()>;
    /// Forgets written holds of a live that ended before `before` (by the gate's clock) and have no order. What was HELD has ended
    /// with its deadline, where nobody has written its end down.
    fn forget_holds<'a>(&'a self, live: &'a LiveId, before: UnixMillis) -> Answer<'a, ()>;
    /// A live's sales that close after `after`, or still have unfinished orders; by opening time.
    fn sales<'a>(&'a self, live: &'a LiveId, after: UnixMillis) -> Answer<'a, Vec<Sale>>;

    /// Commits that a payment starts. Idempotent by hold: where the hold has an order, that one is returned
    /// unchanged, but for whom it goes to: that is replaced, where the buyer says it, until the order is paid.
    fn start_order<'a>(&'a self, order: &'a NewOrder, details: &'a Details) -> Answer<'a, Order>;
    /// An order.
    fn order<'a>(&'a self, order: &'a OrderId) -> Answer<'a, Option<Order>>;
    /// The order of a payment.
    fn order_of_payment<'a>(&'a self, payment: &'a PaymentId) -> Answer<'a, Option<Order>>;
    /// A live's orders in any of `states` (empty: all), newest first, at most `limit`.
    fn orders<'a>(&'a self, live: &'a LiveId, states: &'a [OrderState], limit: u32)
    -> Answer<'a, Vec<Order>>;
    /// What each of these buyers has bought, in their order: at most [`MAX_BUYERS`], with at most `limit` orders each.
    fn bought<'a>(&'a self, live: &'a LiveRef, buyers: &'a [BuyerId], limit: u32) -> Answer<'a, Vec<Bought>>;
    /// Sums of a live's SOLD orders.
    fn totals<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Totals>;

    /// Writes down that money arrived for an order, unless that was written down before, and returns the order: its
    /// `paid` is the first event's.
    fn record_paid<'a>(&'a self, order: &'a OrderId, paid: &'a Paid) -> Answer<'a, Order>;

    /// Writes a coupon down; the same again changes nothing. `Conflict` where its live has another one of this code, or as many
    /// as it may.
    fn put_coupon<'a>(&'a self, coupon: &'a Coupon) -> Answer<'a, Coupon>;
    /// Takes a change of a coupon over as [`CouponTerms::changed_to`] does, and gives it as it is then.
    fn change_coupon<'a>(
        &'a self,
        live: &'a LiveId,
        code: &'a CouponCode,
        terms: &'a CouponTerms,
    ) -> Answer<'a, Coupon>;
    /// A live's coupons with their uses, in the order in which they were made.
    fn coupons<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<CouponUse>>;
    /// One of them.
    fn coupon<'a>(&'a self, live: &'a LiveId, code: &'a CouponCode) -> Answer<'a, Option<CouponUse>>;

    /// Moves an order and, for `Sold`, counts its units against the sale's stock, in one transaction that a constraint
    /// keeps from overselling (`Conflict`). Idempotent; allowed are Paying|Expired → Sold|RefundDue, Paying → Expired,
    /// RefundDue → Refunded; any other move is `Conflict`.
    fn move_order<'a>(&'a self, order: &'a OrderId, to: OrderState, at: UnixMillis) -> Answer<'a, Order>;

    /// Writes down that units of a SOLD order are on the shelf again, all that have not come back where none are named, unless
    /// that was done before under this `key`: each line's counter goes down by as many. More than there are, or other units
    /// under the same key, is `Conflict`. Gives the order as it is then.
    fn restock<'a>(
        &'a self,
        order: &'a OrderId,
        key: &'a str,
        units: Option<&'a Units>,
        at: UnixMillis,
    ) -> Answer<'a, Order>;
    /// Writes down that the gate knows that so many units of an order are on the shelf again.
    fn restock_told<'a>(&'a self, order: &'a OrderId, returned: &'a Units) -> Answer<'a, ()>;
    /// Keys of a sale that have, or had, something: those of its orders, and of its holds as far as they are written down and not
    /// forgotten; at most `limit`.
    fn hold_ids<'a>(&'a self, live: &'a LiveId, sale: &'a SaleId, limit: u32) -> Answer<'a, Vec<HoldId>>;
    /// A live's orders with units on the shelf again that the gate may not know of, at most `limit`.
    fn restocks_due<'a>(&'a self, live: &'a LiveId, limit: u32) -> Answer<'a, Vec<Order>>;

    /// Records a provider's callback, before it is answered. The first that brings money is what its order is paid with
    /// ([`Ledger::record_paid`]), in the same transaction. With the first delivery of it, `details` fill in what nobody has
    /// said of the order before.
    fn record_callback<'a>(
        &'a self,
        callback: &'a Callback,
        details: Option<&'a Details>,
    ) -> Answer<'a, CallbackState>;
    /// Marks a callback as carried out to the end.
    fn finish_callback<'a>(&'a self, provider: &'a str, event: &'a str) -> Answer<'a, ()>;
    /// What providers have said about a live's orders, oldest first, each with whether it was carried out to the end.
    fn callbacks<'a>(&'a self, live: &'a LiveId) -> Answer<'a, Vec<(Callback, bool)>>;
    /// Callbacks not carried out to the end, oldest first: for the worker that resumes them at start.
    fn unfinished_callbacks(&self, limit: u32) -> Answer<'_, Vec<Callback>>;

    /// Whether the database answers.
    fn ping(&self) -> Answer<'_, ()>;
}
