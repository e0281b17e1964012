//! Names that follow from other names, so that a retry names the same thing without anybody remembering it.
//!
//! A hold's id follows from who asks for what under which idempotency key, and so may a sale's; its order and payment follow from the hold.
//! They are SHA-256 cut to 160 bits: nobody finds a key that gives them another buyer's hold.

use haul_model::{BuyerId, HoldId, OrderId, PaymentId, RefundId, SaleId};
use sha2::{Digest, Sha256};

use crate::LiveRef;

/// The hold that `buyer` asks for under their idempotency `key`: `hold_` and 32 letters and digits.
pub fn hold_id(live: &LiveRef, sale: &SaleId, buyer: &BuyerId, key: &str) -> HoldId {
    let parts = [live.merchant.as_str(), live.live.as_str(), sale.as_str(), buyer.as_str(), key];
    name("hold", &parts).parse().expect("letters, digits and an underscore are an id")
}

/// The sale that somebody makes under an idempotency `key`: `sale_` and 32 letters and digits.
pub fn sale_id(live: &LiveRef, maker: &BuyerId, key: &str) -> SaleId {
    let parts = [live.merchant.as_str(), live.live.as_str(), maker.as_str(), key];
    name("sale", &parts).parse().expect("letters, digits and an underscore are an id")
}

/// The one order of a hold: `order_` and 32 letters and digits.
pub fn order_id(hold: &HoldId) -> OrderId {
    name("order", &[hold.as_str()]).parse().expect("letters, digits and an underscore are an id")
}

/// The one payment of a hold's order: `pay_` and 32 letters and digits.
pub fn payment_id(hold: &HoldId) -> PaymentId {
    name("pay", &[hold.as_str()]).parse().expect("letters, digits and an underscore are an id")
}

/// The refund that follows from something: money that came for nothing, named by the provider and its event, or a
/// merchant's request, named by the merchant and their idempotency key. `refund_` and 32 letters and digits.
pub fn refund_id(of: &str, key: &str) -> RefundId {
    name("refund", &[of, key]).parse().expect("letters, digits and an underscore are an id")
}

/// Crockford's base 32, as in generated ids.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// `kind`, an underscore, and 160 bits of the hash of `kind` and `parts`. Each part goes in with its length before it:
/// without that, "ab" + "c" and "a" + "bc" would be one name.
fn name(kind: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in std::iter::once(&kind).chain(parts) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let hash = hash.finalize();
    let mut text = String::with_capacity(kind.len() + 33);
    text.push_str(kind);
    text.push('_');
    for five in hash[..20].chunks_exact(5) {
        let bits = five.iter().fold(0_u64, |bits, &byte| bits << 8 | u64::from(byte));
        text.extend((0..8).rev().map(|digit| char::from(DIGITS[(bits >> (5 * digit)) as usize & 31])));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(merchant: &str, live: &str, sale: &str, buyer: &str, key: &str) -> HoldId {
        let live = LiveRef { merchant: merchant.parse().unwrap(), live: live.parse().unwrap() };
        hold_id(&live, &sale.parse().unwrap(), &buyer.parse().unwrap(), key)
    }

    #[test]
    fn the_same_request_names_the_same_hold() {
        let first = hold("main", "demo", "sale_1", "ann", "key-1");
        assert_eq!(first, hold("main", "demo", "sale_1", "ann", "key-1"));
        assert_eq!(first.as_str().len(), "hold_".len() + 32);
        assert_eq!(order_id(&first), order_id(&first));
        assert_eq!(payment_id(&first), payment_id(&first));
        assert_ne!(order_id(&first).as_str()["order_".len()..], payment_id(&first).as_str()["pay_".len()..]);
    }

    #[test]
    fn any_difference_names_another_hold() {
        let first = hold("main", "demo", "sale_1", "ann", "key-1");
        for other in [
            hold("other", "demo", "sale_1", "ann", "key-1"),
            hold("main", "demo2", "sale_1", "ann", "key-1"),
            hold("main", "demo", "sale_2", "ann", "key-1"),
            hold("main", "demo", "sale_1", "bob", "key-1"),
            hold("main", "demo", "sale_1", "ann", "key-2"),
            hold("main", "demo", "sale_1", "annk", "ey-1"),
        ] {
            assert_ne!(first, other);
        }
    }

    #[test]
    fn names_stay_what_they_are_across_versions() {
        // A changed derivation would give a retry that crosses an upgrade a second hold.
        assert_eq!(
            hold("main", "demo", "sale_1", "ann", "key-1").as_str(),
            "hold_x1bpgnvvtzjxh8y8py6g9snm8z4b836m"
        );
    }
}
