//! What the edge asks of the house it is built into: who is let in, and to what.

use std::{net::IpAddr, sync::Arc, time::Instant};

use futures_util::future::BoxFuture;
use haul_media::Relay;
use haul_model::LiveId;

/// Somebody at the door.
#[derive(Debug, Clone)]
pub struct Asks {
    /// The live that the path names.
    pub live: LiveId,
    /// Their token, if they showed one.
    pub token: Option<String>,
    /// Where they are.
    pub client: IpAddr,
}

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token where one is needed, or one that is not valid (any more). (401)
    #[error("a valid token is needed")]
    Unauthorized,
    /// The token is for another live, or does not permit this. (403)
    #[error("the token does not permit this")]
    Forbidden,
    /// There is no such live, or its host has never come. (404)
    #[error("there is no such live")]
    NotFound,
    /// Somebody else publishes here. (409)
    #[error("somebody else publishes here")]
    Taken,
    /// This client has as many sessions as one may have. (429)
    #[error("too many sessions from one address")]
    TooMany,
    /// No room now. Try later. (503)
    #[error("no room now")]
    Busy,
}

impl Refusal {
    /// The status of HTTP that says the same.
    pub fn status(self) -> u16 {
        match self {
            Refusal::Unauthorized => 401,
            Refusal::Forbidden => 403,
            Refusal::NotFound => 404,
            Refusal::Taken => 409,
            Refusal::TooMany => 429,
            Refusal::Busy => 503,
        }
    }
}

/// The permission to publish, for as long as it lives.
pub type OnAir = Box<dyn Send + Sync>;

/// Somebody who was let in. Dropped when their session ends.
pub trait Guest: Send + Sync + 'static {
    /// The live they are in.
    fn live(&self) -> &LiveId;

    /// Where its frames come from and go to.
    fn relay(&self) -> &Arc<Relay>;

    /// Whether they may ask to publish.
    fn may_publish(&self) -> bool;

    /// When they have to leave, if ever.
    fn expires(&self) -> Option<Instant>;

    /// Whether they may still be here: asked every second.
    fn is_welcome(&self) -> bool;

    /// They begin to publish.
    ///
    /// # Errors
    /// [`Refusal`], if somebody publishes beside whom they may not.
    fn publish(&self) -> Result<OnAir, Refusal>;
}

/// What will be answered.
pub type Answer<'a, T> = BoxFuture<'a, T>;

/// The house: it knows tokens, lives and how full it is.
pub trait House: Send + Sync + 'static {
    /// Lets somebody in, or says why not.
    fn admit(&self, asks: Asks) -> Answer<'_, Result<Box<dyn Guest>, Refusal>>;
}
