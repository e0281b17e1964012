//! Payment providers, each an adapter onto [`haul_commerce::PaymentProvider`].
//!
//! [`Sandbox`] moves no money. [`MerchantPage`] is the merchant's own payment page, which tells what became of a payment
//! by signed callbacks. [`Stripe`] speaks with Stripe. Nothing here knows orders' states, stock or our own HTTP server.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod callback;
pub mod merchant;
pub mod sandbox;
pub mod stripe;

pub use callback::MAX_REFERENCE_BYTES;
pub use haul_courier::{Keyring, SignatureError, SigningKey, signature};
pub use merchant::MerchantPage;
pub use sandbox::{Sandbox, SignedCallback};
pub use stripe::Stripe;

use haul_model::UnixMillis;

/// The clock that tells a provider's adapter when it signs, and what lies in the future.
pub type Clock = fn() -> UnixMillis;
