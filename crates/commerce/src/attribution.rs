//! Who brought a buyer: the touches that are written down, and the one that an order is put down to.
//!
//! **The rule.** (1) A `ref` that came with the checkout itself. (2) Else the last click on a creator's link or on a
//! product under their `ref`, at most [`Rule::click_window`] before the order. (3) Else the last join of this live under
//! a `ref`, at most [`Rule::join_window`] before. What came after the order counts for nothing, nor does a creator who
//! buys under their own `ref`. So every order has one winner or none, and who computes it again finds the same.

use std::time::Duration;

use haul_model::{AgencyId, BuyerId, CreatorId, HoldId, LiveId, MerchantId, ProductId, UnixMillis};
use serde::{Deserialize, Serialize};

use crate::{NewOrder, ledger::Answer};

/// The longest code of a creator, in bytes.
pub const MAX_CODE_BYTES: usize = 64;
/// Touches of one buyer that are looked at for an order, the latest; more are left out.
pub const MAX_TOUCHES: u32 = 200;
/// Touches written in one transaction.
pub const MAX_TOUCH_BATCH: usize = 500;

/// What somebody did under a creator's `ref`, or without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TouchKind {
    /// Came into a live.
    Join,
    /// Tapped a product, or followed a link to an external shop.
    Click,
    /// Began to pay.
    Order,
}

impl TouchKind {
    /// Its name in stores and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            TouchKind::Join => "join",
            TouchKind::Click => "click",
            TouchKind::Order => "order",
        }
    }
}

/// A touch as it is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touch {
    /// What was done.
    pub kind: TouchKind,
    /// Under whose `ref`; `None`: nobody's, and it counts in the metrics alone.
    pub creator: Option<CreatorId>,
    /// Who did it, if they said who they are.
    pub buyer: Option<BuyerId>,
    /// In which live.
    pub live: LiveId,
    /// On which product, for a click.
    pub product: Option<ProductId>,
    /// To pay for what, for an order.
    pub hold: Option<HoldId>,
    /// When, by the server's clock.
    pub at: UnixMillis,
}

impl Touch {
    /// Somebody goes to pay for a hold.
    pub fn of_order(buyer: BuyerId, live: LiveId, hold: HoldId, at: UnixMillis) -> Self {
        Self {
            kind: TouchKind::Order,
            creator: None,
            buyer: Some(buyer),
            live,
            product: None,
            hold: Some(hold),
            at,
        }
    }
}

/// How long a touch counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// How long before an order a click counts.
    pub click_window: Duration,
    /// How long before an order a join counts.
    pub join_window: Duration,
}

/// What the winner won by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributed {
    /// Who.
    pub creator: CreatorId,
    /// By what.
    pub by: TouchKind,
    /// When that was.
    pub at: UnixMillis,
}

impl Rule {
    /// Whose doing an order is, by the touches of its buyer. `is_self` says whether a creator is that buyer.
    pub fn winner(
        &self,
        order: &NewOrder,
        touches: &[Touch],
        is_self: impl Fn(&CreatorId) -> bool,
    ) -> Option<Attributed> {
        let with_ref = || {
            touches.iter().filter_map(|touch| {
                let creator = touch.creator.as_ref().filter(|creator| !is_self(creator))?;
                (touch.buyer.as_ref() == Some(&order.buyer)).then_some((touch, creator))
            })
        };
        let attributed = |(touch, creator): (&Touch, &CreatorId)| Attributed {
            creator: creator.clone(),
            by: touch.kind,
            at: touch.at,
        };
        let within = |touch: &Touch, window: Duration| {
            touch.at <= order.created_at && touch.at + window > order.created_at
        };
        // Asked to pay twice under two names, the first stands: the order was made then. Clocks don't matter here.
        let with_order = with_ref()
            .filter(|(touch, _)| touch.kind == TouchKind::Order && touch.hold.as_ref() == Some(&order.hold))
            .min_by(|a, b| (a.0.at, a.1).cmp(&(b.0.at, b.1)));
        let last = |kind, window, here: bool| {
            with_ref()
                .filter(|(touch, _)| touch.kind == kind && within(touch, window))
                .filter(|(touch, _)| !here || touch.live == order.live)
                // At one instant the later id: any rule will do that gives the same answer again.
                .max_by(|a, b| (a.0.at, a.1).cmp(&(b.0.at, b.1)))
        };
        with_order
            .or_else(|| last(TouchKind::Click, self.click_window, false))
            .or_else(|| last(TouchKind::Join, self.join_window, true))
            .map(attributed)
    }
}

/// How far a creator reaches, as merchants and agencies tell them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreatorKind {
    /// A key opinion leader: many followers.
    Kol,
    /// A key opinion consumer: a customer whom friends listen to.
    Koc,
}

/// Somebody who brings buyers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creator {
    /// Their id, unique to the merchant.
    pub id: CreatorId,
    /// Whose creator.
    pub merchant: MerchantId,
    /// What the merchant calls them.
    pub name: String,
    /// How far they reach.
    pub kind: CreatorKind,
    /// Their `ref`, unique to the merchant.
    pub code: String,
    /// Who looks after them.
    pub agency: Option<AgencyId>,
    /// As whom they watch and buy, so that they earn nothing by their own orders.
    pub buyer: Option<BuyerId>,
    /// What they get of an order, in hundredths of a percent; absent: what the server's configuration says.
    pub creator_bps: Option<u32>,
    /// Whether touches under their `ref` still count.
    pub active: bool,
}

/// Whether a text may be a creator's code: it stands in links as it is.
pub fn is_code(text: &str) -> bool {
    (1..=MAX_CODE_BYTES).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// What became of a creator who was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreatorPut {
    /// They are as they were put.
    Done,
    /// Their code is another's.
    CodeTaken(CreatorId),
}

/// Creators and touches. Every question names a merchant.
pub trait Creators: Send + Sync + 'static {
    /// Creates or changes a creator.
    fn put_creator<'a>(&'a self, creator: &'a Creator) -> Answer<'a, CreatorPut>;
    /// A creator.
    fn creator<'a>(&'a self, merchant: &'a MerchantId, creator: &'a CreatorId)
    -> Answer<'a, Option<Creator>>;
    /// The creator with this code.
    fn creator_by_code<'a>(&'a self, merchant: &'a MerchantId, code: &'a str) -> Answer<'a, Option<Creator>>;
    /// A merchant's creators by id, from behind `after`, at most `limit`.
    fn creators<'a>(
        &'a self,
        merchant: &'a MerchantId,
        after: Option<&'a CreatorId>,
        limit: u32,
    ) -> Answer<'a, Vec<Creator>>;
    /// Writes touches down, in one transaction. Those in lives or under creators that are not there are left out.
    fn record_touches<'a>(&'a self, touches: &'a [(MerchantId, Touch)]) -> Answer<'a, ()>;
}

#[cfg(test)]
mod tests {
    use haul_model::Money;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const RULE: Rule = Rule { click_window: DAY.saturating_mul(7), join_window: DAY };
    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn order() -> NewOrder {
        let money = Money { amount_minor: 1_000, currency: "EUR".parse().unwrap() };
        crate::testing::order("hold_1", "ann", 1, money, NOW)
    }

    fn touch(kind: TouchKind, creator: &str, before: Duration) -> Touch {
        Touch {
            kind,
            creator: Some(creator.parse().unwrap()),
            buyer: Some("ann".parse().unwrap()),
            live: "demo".parse().unwrap(),
            product: None,
            hold: (kind == TouchKind::Order).then(|| "hold_1".parse().unwrap()),
            at: NOW - before,
        }
    }

    fn winner(touches: &[Touch]) -> Option<String> {
        let winner = RULE.winner(&order(), touches, |creator| creator.as_str() == "ann-herself");
        winner.map(|winner| winner.creator.to_string())
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn the_order_itself_then_the_last_click_then_the_join() {
        use TouchKind::{Click, Join, Order};
        let (join, old, new) =
            (touch(Join, "join", HOUR), touch(Click, "old", 3 * DAY), touch(Click, "new", 2 * DAY));
        let own = touch(Order, "own", Duration::ZERO);
        assert_eq!(winner(&[join.clone(), old.clone(), new.clone(), own]).as_deref(), Some("own"));
        assert_eq!(winner(&[join.clone(), new, old]).as_deref(), Some("new"));
        assert_eq!(winner(std::slice::from_ref(&join)).as_deref(), Some("join"));
        assert_eq!(winner(&[]), None);
        let elsewhere = Touch { live: "other".parse().unwrap(), ..join };
        assert_eq!(winner(&[elsewhere]), None, "a join of another live");
    }

    #[test]
    fn windows_end_to_the_millisecond() {
        use TouchKind::{Click, Join};
        let ms = Duration::from_millis(1);
        for (kind, window) in [(Click, RULE.click_window), (Join, RULE.join_window)] {
            assert!(winner(&[touch(kind, "kol", window - ms)]).is_some());
            assert_eq!(winner(&[touch(kind, "kol", window)]), None);
            let later = Touch { at: NOW + ms, ..touch(kind, "kol", ms) };
            assert_eq!(winner(&[later]), None, "after the order");
        }
    }

    #[test]
    fn nobody_earns_by_their_own_order_or_by_anothers() {
        use TouchKind::{Click, Order};
        assert_eq!(
            winner(&[touch(Order, "ann-herself", HOUR), touch(Click, "kol", DAY)]).as_deref(),
            Some("kol")
        );
        let bobs = Touch { buyer: Some("bob".parse().unwrap()), ..touch(Click, "kol", HOUR) };
        let other_hold = Touch { hold: Some("hold_2".parse().unwrap()), ..touch(Order, "kol", HOUR) };
        let nobodys = Touch { creator: None, ..touch(Click, "kol", HOUR) };
        assert_eq!(winner(&[bobs, other_hold, nobodys]), None);
    }

    #[test]
    fn whatever_order_touches_are_read_in_the_winner_is_the_same() {
        let mut rng = StdRng::seed_from_u64(4);
        let kinds = [TouchKind::Join, TouchKind::Click, TouchKind::Order];
        for _ in 0..500 {
            let mut touches: Vec<_> = (0..rng.random_range(0..12))
                .map(|_| {
                    let before = Duration::from_secs(rng.random_range(0..10) * 86_400 / 2);
                    touch(kinds[rng.random_range(0..3)], ["a", "b", "c"][rng.random_range(0..3)], before)
                })
                .collect();
            let first = winner(&touches);
            for _ in 0..5 {
                let (a, b) =
                    (rng.random_range(0..touches.len().max(1)), rng.random_range(0..touches.len().max(1)));
                if !touches.is_empty() {
                    touches.swap(a, b);
                }
                assert_eq!(winner(&touches), first);
            }
        }
    }
}
