//! Coupons: what the host makes and drops into the room, and what buyers see of them.

use haul_model::{CouponCode, Money, ProductId, SaleId, UnixMillis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked, by its `type`. All of it for the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum CouponAsk {
    /// Makes a coupon. The same again is the same coupon.
    #[serde(rename = "coupon.make")]
    Make(CouponMake),
    /// Lets nobody new use a coupon. Whose hold has a use may pay with it.
    #[serde(rename = "coupon.close")]
    Close {
        /// Its code.
        code: String,
    },
    /// Lets a coupon be used more often.
    #[serde(rename = "coupon.add_uses")]
    AddUses {
        /// Its code.
        code: String,
        /// Uses in all from now on; fewer than before change nothing.
        limit: u32,
    },
    /// Drops a coupon into the room: everybody sees its code.
    #[serde(rename = "coupon.show")]
    Show {
        /// Its code.
        code: String,
    },
    /// Shows no coupon.
    #[serde(rename = "coupon.hide")]
    Hide,
}

impl CouponAsk {
    /// The types, as they are written.
    pub const TYPES: &[&str] =
        &["coupon.make", "coupon.close", "coupon.add_uses", "coupon.show", "coupon.hide"];
}

/// A coupon to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CouponMake {
    /// What buyers type: 3 to 32 letters, digits, `-` or `_`. Case does not matter.
    pub code: String,
    /// Takes off so much, in the minor unit of the live's products; this or `percent`.
    pub amount_minor: Option<i64>,
    /// Takes off so many hundredths of the price, 1 to 100, rounded down to the minor unit.
    pub percent: Option<u8>,
    /// Uses in all. A use is one hold, however many units.
    pub limit: u32,
    /// Uses of one buyer; 1 where absent.
    #[serde(default = "one")]
    pub per_buyer: u32,
    /// Valid from, by the server's clock; now where absent.
    pub valid_from: Option<UnixMillis>,
    /// How long it is valid, in milliseconds; at most a hundred days.
    pub duration_ms: u64,
    /// For this sale only; for all of the live where absent.
    pub sale_id: Option<SaleId>,
    /// For these products only; for all where absent.
    #[serde(default)]
    pub product_ids: Vec<ProductId>,
    /// What the products it is for must cost at least together; 0 where absent.
    #[serde(default)]
    pub minimum_minor: i64,
    /// Whether it is shown to the room at once.
    #[serde(default)]
    pub show: bool,
}

fn one() -> u32 {
    1
}

/// A coupon, as everybody may see it who has its code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CouponView {
    /// What is typed.
    pub code: CouponCode,
    /// What it takes off, where that is an amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub amount: Option<Money>,
    /// What it takes off, where that is hundredths of the price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// What the products it is for must cost at least together; absent where any price will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<Money>,
    /// For this sale only; absent: for all of the live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sale_id: Option<SaleId>,
    /// For these products only; absent: for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub product_ids: Vec<ProductId>,
    /// Uses in all.
    pub limit: u32,
    /// Uses of one buyer.
    pub per_buyer: u32,
    /// Valid from, by the server's clock.
    pub valid_from: UnixMillis,
    /// Valid until, not included.
    pub valid_until: UnixMillis,
    /// Whether nobody new may use it any more.
    pub closed: bool,
}

/// What a coupon takes off an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CouponOff {
    /// Its code.
    pub code: CouponCode,
    /// How much. The order's `total` is without it.
    pub amount: Money,
}

/// What is told of coupons, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum CouponNews {
    /// The host shows another coupon, or none, or it was changed.
    #[serde(rename = "coupon.changed")]
    Changed {
        /// The coupon in sight.
        coupon: Option<CouponView>,
    },
}
