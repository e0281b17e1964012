//! The binary from outside: as a host, a viewer, a buyer, a provider and an operator see it.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod again;
mod backend;
mod channel;
#[path = "../../crates/webrtc/tests/client/mod.rs"]
mod client;
mod clocks;
mod configured;
mod contact;
mod crowd;
mod developer;
mod erased;
mod faults;
#[path = "../../crates/commerce/tests/history/mod.rs"]
mod history;
mod http;
mod media;
mod merchant;
mod money;
mod moq;
#[path = "../../crates/quic/tests/client/mod.rs"]
mod moq_client;
mod nat;
mod offers;
mod operations;
#[path = "../../crates/store/tests/support/postgres.rs"]
mod postgres;
mod quality;
mod races;
mod room;
mod rtc_client;
mod selling;
mod server;
mod servers;
#[path = "../../crates/payments/tests/support/mod.rs"]
mod shop;
mod soak;
mod talk;
mod tongues;
mod waiting;
mod walk;
mod whip;

// What `postgres` asks of whoever uses it.
use server::{free_port, unique};
