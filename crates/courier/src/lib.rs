//! Calling other people's servers, and knowing who calls us: an HTTPS client with limits, the signatures of Standard
//! Webhooks, and the deliveries of merchants' webhooks.
//!
//! Payment providers, webhooks and merchants' own checks are reached through [`Client`]. What is delivered, and when it
//! is tried again, `haul-commerce` decides; where it is kept, a store.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod address;
pub mod client;
pub mod signature;
pub mod webhooks;

pub use client::{Call, CallError, Client, Reach, Reply};
pub use hyper::Method;
pub use signature::{Keyring, SignatureError, SigningKey};
