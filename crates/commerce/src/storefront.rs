//! All that a merchant's shop window needs of a store beside the ledger, as one thing to pass around.

use crate::listing::Catalogue;

/// A store that has all of it.
pub trait Storefront: Catalogue {}

impl<T: Catalogue> Storefront for T {}
