//! Payment providers, each an adapter onto [`haul_commerce::PaymentProvider`].
//!
//! The only one so far is [`Sandbox`], which moves no money. Its callbacks are signed and arrive over HTTP exactly as a
//! real provider's would. Nothing here knows orders, stock or HTTP.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod sandbox;
pub mod signature;

pub use sandbox::{Sandbox, SignedCallback};
pub use signature::{SignatureError, SigningKey};
