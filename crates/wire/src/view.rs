//! How things look on the wire.

use haul_model::{
    CouponCode, HoldId, Money, OrderId, ProductId, Role, SaleId, SessionId, TierId, UnixMillis, VariantId,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{chat::Standing, coupon::CouponOff};

/// The live itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LiveView {
    /// What viewers read above the picture.
    pub title: String,
    /// Whether there is a picture.
    pub state: LiveState,
    /// What viewers should know of the sound; absent where there is nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sound: Option<LiveSound>,
}

/// What viewers should know of the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiveSound {
    /// WebRTC does not carry it (AAC): it is heard by Media over QUIC only.
    MoqOnly,
}

/// Whether there is a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LiveState {
    /// No host yet, or the host is away.
    Waiting,
    /// The host is sending.
    Live,
    /// The host is on air and nothing comes: cut off, or their app has crashed. Goes on as `live` when they are back, or
    /// as `waiting` when they are given up.
    Reconnecting,
}

/// What a viewer is sent of the pictures, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QualityView {
    /// The media session that it is about.
    pub session: SessionId,
    /// How much of the pictures.
    pub pictures: Pictures,
    /// The layer that is sent; null before the first picture, and while there is none.
    pub layer: Option<String>,
    /// What was asked for: a layer's name, or `auto`.
    pub choice: String,
    /// Why it is this and not another.
    pub reason: QualityReason,
    /// What there is to choose from, the largest first.
    pub layers: Vec<LayerView>,
}

/// How much of the pictures a viewer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pictures {
    /// All of the layer's.
    All,
    /// Some are left out, because they would come late over this network and there is no smaller layer.
    Some,
    /// None: not even the smallest layer fits. Sound goes on, and pictures return when there is room.
    None,
}

/// Why a viewer is sent this layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QualityReason {
    /// It is the best there is.
    Best,
    /// It was asked for.
    Asked,
    /// The viewer's network carries no more.
    Network,
}

/// A layer of the pictures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LayerView {
    /// Its name in the host's offer (rid), or its number where it has none.
    pub name: String,
    /// What it takes now, in bits a second.
    pub bitrate_bps: u64,
}

/// A product of the bag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ProductView {
    /// Its id.
    pub id: ProductId,
    /// What it is called.
    pub title: String,
    /// One line more.
    pub subtitle: String,
    /// A picture, or empty.
    pub image_url: String,
    /// The price outside of sales.
    pub list_price: Money,
}

/// The product being explained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pin {
    /// Which product of the bag.
    pub product_id: ProductId,
    /// Since when, by the server's clock.
    pub since: UnixMillis,
    /// The same in the broadcast's own time: milliseconds since it began, so that a replay can jump there. Null where
    /// there was no picture.
    pub media_ms: Option<u64>,
}

/// A sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SaleView {
    /// Its id.
    pub id: SaleId,
    /// What is sold; of several, the first.
    pub product_id: ProductId,
    /// Which form of it; absent where there is one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<VariantId>,
    /// Price of a unit; of several products, of the first.
    pub price: Money,
    /// Where it stands by the server's clock. A client's own countdown may run ahead of the event that says so.
    pub state: SaleState,
    /// When it opens.
    pub opens_at: UnixMillis,
    /// When it closes.
    pub closes_at: UnixMillis,
    /// Units a buyer may have; of several products, of the first.
    pub per_buyer: u32,
    /// How long a hold lasts.
    pub hold_ms: u64,
    /// Units in all: always `available + held + sold`.
    pub stock: u32,
    /// Units free to be held.
    pub available: u32,
    /// Units set aside or being paid.
    pub held: u32,
    /// Units sold.
    pub sold: u32,
    /// How long units are set aside for somebody whose turn in line has come; absent where one cannot wait in line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offer_ms: Option<u64>,
    /// When and how those who get something are drawn; absent where who comes first does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draw: Option<DrawView>,
    /// When units are set aside; absent where it is with the hold.
    #[serde(default, skip_serializing_if = "SaleMode::is_hold_in_cart")]
    pub mode: SaleMode,
    /// Who may come before `opens_at`; absent where nobody may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub early: Vec<EarlyView>,
    /// What is sold, line by line, counted from 0; absent where it is one product.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<SaleLineView>,
}

/// When units are set aside for a buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaleMode {
    /// With the hold.
    #[default]
    HoldInCart,
    /// With the money: first paid, first served. Who pays when nothing is left gets the money back.
    FirstPaid,
}

impl SaleMode {
    fn is_hold_in_cart(&self) -> bool {
        *self == SaleMode::HoldInCart
    }
}

/// The draw of a sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DrawView {
    /// When it is drawn. Until then a `hold` is an entry.
    pub draws_at: UnixMillis,
    /// SHA-256 of the seed, in hexadecimal digits: what is decided by is fixed before anybody enters.
    pub commitment: String,
    /// The seed, once it is drawn. `docs/selling.md` says how the winners follow from it.
    pub seed: Option<String>,
}

/// A tier for which a sale opens earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EarlyView {
    /// The `tier` of a token.
    pub tier: TierId,
    /// When it opens for them.
    pub opens_at: UnixMillis,
}

/// One of several products, or forms of a product, in a sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SaleLineView {
    /// What is sold.
    pub product_id: ProductId,
    /// Which form of it; absent where there is one only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<VariantId>,
    /// Price of a unit.
    pub price: Money,
    /// Units a buyer may have.
    pub per_buyer: u32,
    /// Units in all: always `available + held + sold`.
    pub stock: u32,
    /// Where they are.
    #[serde(flatten)]
    pub units: StockView,
}

/// Where a line's units are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StockView {
    /// Units free to be held.
    pub available: u32,
    /// Units set aside or being paid.
    pub held: u32,
    /// Units sold.
    pub sold: u32,
}

/// Units of one line of a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LineUnits {
    /// Which line, counted from 0.
    pub line: u8,
    /// Units.
    pub quantity: u32,
}

/// Where a sale stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaleState {
    /// It opens later.
    Scheduled,
    /// Units can be held, if there are any.
    Open,
    /// Interrupted for a moment: the stock is being restored after a failure. Requests are answered `pending`.
    Frozen,
    /// Nothing new can be held until the host goes on. Who holds something may pay.
    Paused,
    /// Over.
    Closed,
}

/// A hold, as its buyer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HoldView {
    /// Its id.
    pub id: HoldId,
    /// Of which sale.
    pub sale_id: SaleId,
    /// Units, of all lines.
    pub quantity: u32,
    /// Units by line; absent where they are of line 0 alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<LineUnits>,
    /// Where it stands.
    pub state: HoldState,
    /// When its units go back, where it stands under one.
    pub deadline: Option<UnixMillis>,
    /// Where it is in line while it is waiting: 1 is next. Absent otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u32>,
    /// The code of the coupon of which it has a use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coupon: Option<CouponCode>,
}

/// Where a hold stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HoldState {
    /// Set aside.
    Held,
    /// In a draw that is still to come. It becomes `held` or `released` then.
    Entered,
    /// In line for units that are set aside for others. It becomes `held` when it is its turn.
    Waiting,
    /// Being paid.
    Paying,
    /// Paid, being written down.
    Captured,
    /// Sold.
    Sold,
    /// Its units went back.
    Released,
}

/// An order, as its buyer and the host see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OrderView {
    /// Its id.
    pub id: OrderId,
    /// The hold it pays for.
    pub hold_id: HoldId,
    /// Of which sale.
    pub sale_id: SaleId,
    /// What was bought; of several, the first.
    pub product_id: ProductId,
    /// Who buys, for the host.
    pub buyer_name: String,
    /// Units, of all lines.
    pub quantity: u32,
    /// Units of it that were sold and are on the shelf again; absent where none are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub returned: u32,
    /// Price of all, without what the coupon takes off.
    pub total: Money,
    /// The coupon that it is paid with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coupon: Option<CouponOff>,
    /// What was bought, line by line; at least one. Their totals are before the coupon.
    pub lines: Vec<OrderLineView>,
    /// Where it stands.
    pub state: OrderStateView,
    /// How much of it went back.
    pub refunded: Money,
    /// Whether the buyer disputes the payment, and that is not decided yet.
    pub disputed: bool,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct OrderLineView {
    /// Which of the sale's lines, from 0.
    pub line: u8,
    /// The product.
    pub product_id: ProductId,
    /// Which form of it, where the sale was of one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant_id: Option<VariantId>,
    /// Units.
    pub quantity: u32,
    /// Price of one.
    pub unit_price: Money,
    /// Price of all of them.
    pub total: Money,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Where an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderStateView {
    /// The buyer is at the payment provider.
    Paying,
    /// Paid and confirmed.
    Sold,
    /// Nobody paid in time.
    Expired,
    /// Paid too late: the money goes back.
    RefundDue,
    /// A part of the money went back.
    PartlyRefunded,
    /// The money went back.
    Refunded,
}

/// What the server knows of the reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct You {
    /// The name shown to others.
    pub name: String,
    /// What they may do here.
    pub role: Role,
    /// Their standing holds.
    pub holds: Vec<HoldView>,
    /// Their latest orders, newest first.
    pub orders: Vec<OrderView>,
    /// What keeps them from writing; null where nothing does.
    pub standing: Option<Standing>,
}

/// Sums of a live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema, Default)]
pub struct Totals {
    /// Orders sold.
    pub orders: u64,
    /// Units sold.
    pub units: u64,
    /// Revenue by currency, less what went back.
    pub revenue: Vec<Money>,
}

/// What only the host and moderators see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct HostView {
    /// Sums.
    pub totals: Totals,
    /// Latest orders, newest first.
    pub orders: Vec<OrderView>,
    /// Private threads, newest first.
    pub threads: Vec<crate::crowd::ThreadLine>,
    /// Who has won the giveaway in sight.
    pub winners: Vec<crate::show::Winner>,
    /// Those before, whose winners may claim still.
    pub drawn: Vec<crate::show::Drawn>,
}
