//! What servers say to each other about a room.

use std::collections::BTreeMap;

use haul_commerce::{Offered, Released};
use haul_model::{BuyerId, Locale, MerchantId, OrderId, Role, SaleId, UnixMillis, Viewer};
use haul_wire::{Position, crowd::Reaction};
use serde::{Deserialize, Serialize};

use crate::{house::Word, live::Look, stage::MemberId};

/// What an owner tells all servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Item {
    /// There is another owner: who is connected elsewhere is introduced to it.
    Owner { term: u64 },
    /// For members.
    Word(Word),
    /// Who may watch without a token has changed.
    Public(bool),
    /// The answer to [`Ask::Look`].
    Looked { asker: MemberId, look: Look },
    /// This server was given up, and is there after all: the owner knows nobody there.
    Again { node: u64 },
    /// This person is forgotten.
    Forgot(BuyerId),
    /// The owner is going away: another may take the room at once.
    Free,
}

/// A batch, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Telling {
    /// When, by the owner's clock.
    pub(crate) at: UnixMillis,
    pub(crate) items: Vec<Item>,
}

/// What a server asks of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Somebody has come.
    Join { member: MemberId, id: u64, viewer: Option<Who>, locale: Option<Locale>, resume: Option<Position> },
    /// Somebody was welcomed by an earlier owner.
    Back { member: MemberId, viewer: Option<Who>, locale: Option<Locale> },
    /// Somebody asks one thing.
    Visit { member: MemberId, viewer: Who },
    /// Somebody has left.
    Leave(MemberId),
    /// A member's request, as the channel writes it.
    Request { member: MemberId, text: String },
    /// So much was liked there since the last time.
    Liked(BTreeMap<Reaction, u32>),
    /// How does the live stand?
    Look { asker: MemberId },
    /// An order moved on in the ledger.
    Order(OrderId),
    /// Something else of an order changed.
    OrderChanged { order: OrderId, refunded_minor: i64 },
    /// The bag changed in the ledger.
    Bag,
    /// The live's record changed in the ledger.
    Record,
    /// A call to the gate moved a sale's stock, and ended or offered these holds.
    Sale { sale: SaleId, released: Vec<Released>, offered: Vec<Offered> },
    /// What the room keeps of somebody is to be forgotten.
    Forget(BuyerId),
    /// The host's picture, which comes here.
    Air(Air),
    /// This server is there.
    Here,
}

/// What there is to say of the host's picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Air {
    On,
    Off,
    Stalled(bool),
    OutOfOrder,
    SoundByMoqOnly,
}

/// Questions of one server to the owner of one term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asking {
    pub(crate) node: u64,
    /// Whom it is for: an owner of another term has heard otherwise of what is asked here.
    pub(crate) term: u64,
    /// Rises by one; the same number again is the same questions.
    pub(crate) number: u64,
    pub(crate) asks: Vec<Ask>,
}

/// A [`Viewer`], as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    id: BuyerId,
    name: String,
    role: Role,
    expires_at: UnixMillis,
    tier: Option<String>,
    follower: bool,
    merchant: MerchantId,
}

impl From<&Viewer> for Who {
    fn from(viewer: &Viewer) -> Self {
        Self {
            id: viewer.id.clone(),
            name: viewer.name.clone(),
            role: viewer.role,
            expires_at: viewer.expires_at,
            tier: viewer.tier.as_deref().map(str::to_owned),
            follower: viewer.follower,
            merchant: viewer.merchant.clone(),
        }
    }
}

impl From<Who> for Viewer {
    fn from(who: Who) -> Self {
        Self {
            id: who.id,
            name: who.name,
            role: who.role,
            expires_at: who.expires_at,
            tier: who.tier.map(Into::into),
            follower: who.follower,
            merchant: who.merchant,
        }
    }
}
