//! Who brought whom: the `ref`s that people come under, links to external shops, and what is written down of both.

pub(crate) mod links;
mod seal;
mod touches;
mod visit;

pub use self::{seal::Seal, touches::RefRules};
pub(crate) use self::{
    touches::{REF, Touches},
    visit::Visit,
};
