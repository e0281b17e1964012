//! All that a merchant's shop window needs of a store beside the ledger, as one thing to pass around.

use crate::{
    attribution::Creators, bookings::Bookings, follow::Follower, insight::Insight, listing::Catalogue,
    notice::Notices,
};

/// A store that has all of it.
pub trait Storefront: Catalogue + Creators + Bookings + Follower + Notices + Insight {}

impl<T: Catalogue + Creators + Bookings + Follower + Notices + Insight> Storefront for T {}
