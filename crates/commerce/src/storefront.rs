//! All that a merchant's shop window needs of a store beside the ledger, as one thing to pass around.

use crate::{
    attribution::Creators, bookings::Bookings, buyers::Buyers, follow::Follower, insight::Insight,
    listing::Catalogue, notice::Notices,
};

/// A store that has all of it.
pub trait Storefront: Catalogue + Creators + Bookings + Buyers + Follower + Notices + Insight {}

impl<T: Catalogue + Creators + Bookings + Buyers + Follower + Notices + Insight> Storefront for T {}
