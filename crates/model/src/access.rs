//! Who somebody is, and what they may do.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{BuyerId, MerchantId, UnixMillis};

/// What a token permits. Roles include each other: a host may do all that a moderator may, a moderator all that a
/// viewer may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Watches, chats and buys.
    Viewer,
    /// Also keeps order in the room.
    Moderator,
    /// Also publishes, pins and sells.
    Host,
}

impl Role {
    /// Whether this role includes `needed`.
    pub fn includes(self, needed: Role) -> bool {
        self >= needed
    }

    /// The claim's text.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Viewer => "viewer",
            Role::Moderator => "moderator",
            Role::Host => "host",
        }
    }
}

/// Somebody whose token was verified, for one live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Viewer {
    /// From the token's `sub`, never from a message.
    pub id: BuyerId,
    /// The name shown to others.
    pub name: String,
    /// What they may do in this live.
    pub role: Role,
    /// Until when the token is valid; what is done with it ends then.
    pub expires_at: UnixMillis,
    /// Their standing with the shop as the token says, for instance `gold`; shown to others.
    pub tier: Option<Arc<str>>,
    /// Whether the token says that they follow the shop.
    pub follower: bool,
    /// Whose token it is: nothing of another merchant is visible through it.
    pub merchant: MerchantId,
}
