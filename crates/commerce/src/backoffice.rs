//! All that a merchant's own systems are served from beside the ledger, as one thing to pass around.

use crate::{Refunds, audit::Audit, keys::Keys, orders::OrderList, outbox::Outbox};

/// A store that has all of it.
pub trait Backoffice: Refunds + Keys + OrderList + Outbox + Audit {}

impl<T: Refunds + Keys + OrderList + Outbox + Audit> Backoffice for T {}
