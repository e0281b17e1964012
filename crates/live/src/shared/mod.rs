//! A live's room on several servers.
//!
//! One server owns the room: it alone has a stage. What the stage tells, word for word and in order, goes to the bus
//! first and from there to every server that has readers, the owner's own among them, so all read the same in the same
//! order. What readers of the others ask goes to the owner over the bus, and its answers come back among the words. When an
//! owner is gone, another takes the lease, reads what is left of the room, and goes on at the place where it stopped.
//!
//! [`part`] decides when to call the bus and what follows from its answers; [`run`] does it.

mod left;
mod message;
mod part;
mod run;
mod sharing;
#[cfg(test)]
mod tests;

pub(crate) use run::{Ways, run};
pub use sharing::Sharing;
