//! What goes into a live's state machine, and what comes out of it.

use std::{collections::BTreeMap, time::Duration};

use haul_commerce::{
    Applied, Coupon, CouponTerms, GateError, Line as SaleLine, LiveRecord, Offered, Op, Order, OrderState,
    Outcome, Released, Sale, SaleMove, Units, book::HoldRecord, buyers::Details, listing::Listing,
};
use haul_model::{BuyerId, ContactNeed, CouponCode, HoldId, Locale, OrderId, SaleId, UnixMillis, Viewer};
use haul_room::{Estate, Key, Lane, Line, Note, Rate};
use haul_wire::{Failure, QualityView, Request, crowd::Reaction};
use serde::{Deserialize, Serialize};

use super::Personal;

/// What the server's operator decides for all lives.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How often one person may chat.
    pub chat_rate: Rate,
    /// How long a hold lasts where the host does not say.
    pub hold_ms: u64,
    /// How long a payment may take.
    pub pay_ms: u64,
    /// What a checkout must say of whom the order goes to.
    pub contact: ContactNeed,
    /// What guests may not call themselves, besides the names of who is there: the shop's, for instance.
    pub reserved_names: Vec<String>,
}

/// One connection to the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct MemberId(pub(crate) u64);

/// Bits of a member's id that number the members of one server; those above are the server's number.
pub(crate) const MEMBER_BITS: u32 = 32;

impl MemberId {
    /// Which server the member is connected to.
    pub(crate) fn node(self) -> u64 {
        self.0 >> MEMBER_BITS
    }
}

/// What a live is when its owner begins.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) record: LiveRecord,
    pub(crate) bag: Vec<Listing>,
    /// With the gate's word, where it has come.
    pub(crate) sales: Vec<(Sale, Option<Applied>)>,
    pub(crate) coupons: Vec<Coupon>,
    /// The latest, newest first.
    pub(crate) orders: Vec<Order>,
    pub(crate) totals: haul_commerce::Totals,
    /// What its room remembers.
    pub(crate) notes: Vec<(String, String)>,
    /// Where several servers share the room: what an earlier owner has left of it, perhaps nothing.
    pub(crate) estate: Option<Estate>,
}

/// Who gets a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum To {
    /// Everybody who has been welcomed.
    All,
    /// Host and moderators.
    Staff,
    /// All connections of one person.
    Buyer(BuyerId),
    /// One connection.
    Member(MemberId),
}

/// A line on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delivery {
    pub(crate) to: To,
    pub(crate) lane: Lane,
    pub(crate) key: Option<Key>,
    #[serde(with = "as_text")]
    pub(crate) line: Line,
}

/// Lines are JSON, and so text: they are written as such, and not byte by byte.
pub(crate) mod as_text {
    use haul_room::Line;
    use serde::{Deserialize, Deserializer, Serializer, ser::Error};

    pub(crate) fn serialize<S: Serializer>(line: &Line, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(line).map_err(S::Error::custom)?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Line, D::Error> {
        String::deserialize(deserializer).map(Line::from)
    }
}

/// Several, by language.
pub(crate) mod as_texts {
    use haul_model::Locale;
    use haul_room::Line;
    use serde::{Deserialize, Deserializer, Serializer, ser::Error};

    pub(crate) fn serialize<S: Serializer>(
        versions: &[(Locale, Line)],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let texts = versions.iter().map(|(locale, line)| {
            std::str::from_utf8(line).map(|text| (locale, text)).map_err(S::Error::custom)
        });
        serializer.collect_seq(texts.collect::<Result<Vec<_>, _>>()?)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<(Locale, Line)>, D::Error> {
        let texts = Vec::<(Locale, String)>::deserialize(deserializer)?;
        Ok(texts.into_iter().map(|(locale, text)| (locale, Line::from(text))).collect())
    }
}

/// What to do with the gate's answer to a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Then {
    /// It was a sweep: the answer's report is all.
    Nothing,
    /// Reply to `hold` or `hold.cancel`.
    Hold { member: MemberId, id: u64, hold: HoldId, units: Units, coupon: Option<CouponCode>, cancel: bool },
    /// Go on with `checkout`.
    Checkout { member: MemberId, id: u64, payer: Box<Payer>, hold: HoldId },
}

/// Who goes to pay, and whom the order goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Payer {
    pub(crate) viewer: Viewer,
    pub(crate) details: Details,
}

/// What the owner is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Hand a line over.
    Deliver(Delivery),
    /// Hand the same event to everybody, to each reader in the language that suits them best: `line` where none does.
    DeliverTranslated { line: Line, versions: Vec<(Locale, Line)> },
    /// The member is welcome from here on: deliver to everybody includes them.
    Welcome(MemberId),
    /// Ask the gate; no op is a sweep.
    Ask { sale: SaleId, op: Option<Op>, then: Then },
    /// Find a buyer's holds and orders, then [`Input::Found`].
    Find { member: MemberId, buyer: BuyerId },
    /// Write a sale down and make it known to the gate, then [`Input::SalePut`]. One that is `made` under a key may be there
    /// already: then it stays as it is.
    PutSale { member: MemberId, id: u64, sale: Sale, made: bool },
    /// Write down what changes of a sale, and tell the gate, then [`Input::SalePut`].
    MoveSale { member: MemberId, id: u64, sale: SaleId, to: SaleMove },
    /// Write down that there are more units of a sale's line, and tell the gate, then [`Input::SalePut`].
    AddStock { member: MemberId, id: u64, sale: SaleId, line: SaleLine, units: u32, key: String },
    /// Write a coupon down and make it known to the gate, then [`Input::CouponPut`].
    PutCoupon { member: MemberId, id: u64, coupon: Coupon, show: bool },
    /// Change a coupon, then [`Input::CouponPut`].
    ChangeCoupon { member: MemberId, id: u64, code: CouponCode, terms: CouponTerms },
    /// Look for a coupon that another server may have made, then [`Input::CouponFound`].
    FindCoupon { member: MemberId, id: u64, code: CouponCode, request: Box<Request> },
    /// Look which units a hold has, to see whether a coupon is for them, then [`Input::HoldSeen`].
    LookAtHold {
        member: MemberId,
        id: u64,
        payer: Box<Payer>,
        sale: SaleId,
        hold: HoldId,
        coupon: CouponCode,
    },
    /// The gate may not know all of the live's coupons: tell it.
    TellCoupons,
    /// Put units of an order on the shelf again, all that are left of it where none are named; then
    /// [`Input::Restocked`].
    Restock { member: MemberId, id: u64, order: OrderId, units: Option<Units>, key: String },
    /// Commit the order and start its payment, then [`Input::CheckedOut`].
    Checkout { member: MemberId, id: u64, payer: Box<Payer>, sale: Sale, hold: HoldId, deadline: UnixMillis },
    /// Nobody paid: close the order, then [`Input::OrderMoved`].
    ExpireOrder(OrderId),
    /// The gate does not know this sale any more, or only an older state of it: tell it, then [`Input::SaleKnown`].
    TellGate(Sale),
    /// This sale was rebuilt as this epoch: find the holds that it cost, then [`Input::HoldsLost`].
    LookForLost { sale: SaleId, epoch: u64 },
    /// End this member's connection with this code: they may not be here any more.
    End(MemberId, u16),
    /// This member's chat lines would be refused for so long: their connection can do that by itself.
    Quiet(MemberId, Duration),
    /// Write something down for the next start.
    Keep(Note),
    /// Write this down, then [`Input::Written`].
    Write { number: u64, note: Note },
    /// Whoever writes this (as the room compares it) enters the giveaway: connections let it through however loud it is.
    Entering(Option<String>),
    /// So many answers were late: count them.
    Late(usize),
    /// An order came to a state that it was not in before: count it.
    OrderNews(OrderState),
    /// A call to the gate may have released holds whose report was lost: look at all orders that are being paid.
    LookAfterOrders,
}

/// What happened.
#[derive(Debug)]
pub(crate) enum Input {
    /// Somebody connected and said hello.
    Join {
        member: MemberId,
        id: u64,
        viewer: Option<Viewer>,
        /// In which language they read of products.
        locale: Option<Locale>,
        resume: Option<haul_wire::Position>,
    },
    /// Somebody whom an earlier owner has welcomed.
    Back { member: MemberId, viewer: Option<Viewer>, locale: Option<Locale> },
    /// Somebody asks one thing and goes: they hear of nothing else, and are counted nowhere.
    Visit { member: MemberId, viewer: Viewer },
    /// Their holds and orders, as far as they could be found.
    Found { member: MemberId, personal: Personal },
    /// What a member is sent of the pictures has changed.
    Quality { member: MemberId, quality: QualityView },
    /// A connection ended.
    Leave { member: MemberId },
    /// All that was to be written, up to this number, is.
    Written { upto: u64 },
    /// What somebody wrote to the host's team is to be forgotten.
    Forget { buyer: BuyerId },
    /// A welcomed member asks.
    Request { member: MemberId, id: u64, request: Request },
    /// So many likes were given on one server.
    Liked(BTreeMap<Reaction, u32>),
    /// The gate has answered.
    Applied { sale: SaleId, answer: Result<Applied, GateError>, then: Vec<Then> },
    /// A sale is written down, or could not be.
    SalePut { member: MemberId, id: u64, answer: Result<(Sale, Applied), Failure> },
    /// A coupon is written down, or could not be.
    CouponPut { member: MemberId, id: u64, show: bool, answer: Result<Coupon, Failure> },
    /// What the ledger knows of a coupon that a request names.
    CouponFound { member: MemberId, id: u64, request: Box<Request>, coupon: Result<Option<Coupon>, Failure> },
    /// The units of a hold that is to be paid with a coupon, or why they are not known.
    HoldSeen {
        member: MemberId,
        id: u64,
        payer: Box<Payer>,
        sale: SaleId,
        hold: HoldId,
        coupon: CouponCode,
        units: Result<Units, Failure>,
    },
    /// Units of an order are on the shelf again, or could not be put there.
    Restocked { member: MemberId, id: u64, answer: Result<Order, Failure> },
    /// Another server's call to the gate moved a sale's stock, and ended or offered these holds.
    Elsewhere { sale: SaleId, released: Vec<Released>, offered: Vec<Offered> },
    /// A sale of the ledger's is known to the gate now.
    SaleKnown { sale: Sale, applied: Applied },
    /// The gate had lost these holds and they are over.
    HoldsLost { sale: SaleId, holds: Vec<HoldRecord> },
    /// A payment can be made, or could not be started.
    CheckedOut { member: MemberId, id: u64, sale: SaleId, answer: Result<CheckedOut, Failure> },
    /// An order moved on in the ledger.
    OrderMoved { order: Order, hold: Option<Outcome> },
    /// Money of an order went back, or it is disputed.
    OrderChanged { order: Order, refunded_minor: i64 },
    /// The host's picture began or ended.
    Broadcasting(bool),
    /// Nothing comes from the host on air any more, or it comes again.
    Stalled(bool),
    /// The host's encoder sends pictures out of the order they are shown in (B-frames).
    OutOfOrder,
    /// The host's sound is coded in a way that WebRTC does not carry (AAC).
    SoundByMoqOnly,
    /// The bag changed.
    Bag(Vec<Listing>),
    /// Title or visibility changed.
    Record(LiveRecord),
    /// The server is going away.
    Drain { retry_after_ms: u64 },
}

/// A payment that can be made.
#[derive(Debug)]
pub(crate) struct CheckedOut {
    pub(crate) order: Order,
    pub(crate) pay_url: String,
    pub(crate) deadline: UnixMillis,
}
