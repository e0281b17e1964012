//! What the tests of this crate share.

use std::time::Instant;

use haul_model::{Now, UnixMillis};

/// Any moment will do: the tests move it by themselves.
pub(crate) fn start() -> Now {
    Now { instant: Instant::now(), wall: UnixMillis(1_700_000_000_000) }
}
