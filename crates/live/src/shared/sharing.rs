//! How rooms are shared.

use std::{fmt, sync::Arc};

use haul_commerce::{Bus, BusError, LiveRef};

use crate::stage::MEMBER_BITS;

/// How rooms are shared: over which bus, and as which of the servers. Clones are the same server.
#[derive(Clone)]
pub struct Sharing {
    pub(super) bus: Arc<dyn Bus>,
    pub(super) node: u64,
}

impl Sharing {
    /// `number`: by chance, so that no other server has it; its lower 32 bits count.
    pub fn new(bus: Arc<dyn Bus>, number: u64) -> Self {
        Self { bus, node: (number % ((1 << MEMBER_BITS) - 1)) + 1 }
    }

    /// Whether a server has this room, or has left something of it.
    pub(crate) async fn knows(&self, live: &LiveRef) -> Result<bool, BusError> {
        self.bus.knows(live).await
    }

    /// This server's number, never 0.
    pub fn node(&self) -> u64 {
        self.node
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sharing").field(&self.node).finish()
    }
}
