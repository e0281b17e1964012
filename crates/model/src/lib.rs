//! The nouns that every other crate shares: ids, time, money, roles, and the one media model.
//!
//! Nothing here knows a protocol, a socket, a store or an async runtime.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod access;
pub mod contact;
pub mod guest;
pub mod id;
pub mod locale;
pub mod media;
pub mod money;
pub mod time;

pub use access::{Role, Viewer};
pub use contact::{Charge, Contact, ContactError, ContactNeed};
pub use id::{
    AgencyId, BuyerId, CouponCode, CreatorId, GiveawayId, HoldId, IdError, KeyId, LiveId, MerchantId,
    MessageId, OrderId, PaymentId, PollId, ProductId, QuestionId, RefundId, SaleId, SessionId, TierId,
    VariantId, WebhookId,
};
pub use locale::{Languages, Locale};
pub use media::{Codec, Frame, Kind, Layer, TrackInfo};
pub use money::{Currency, Money};
pub use time::{Now, TimeError, UnixMillis, millis};
