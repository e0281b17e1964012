//! What follows from an order: whose doing it was, how its money is divided, what its buyer has come to, and when the
//! merchant is to be reminded of it.
//!
//! Goes by what an order *is*, not by what happened to it: asked again it finds nothing more to do, and several things
//! that happened at once are one. A store asks it in the transaction in which it writes the effects down.

use std::collections::BTreeSet;

use haul_model::{AgencyId, ProductId, UnixMillis};

use crate::{
    Order, OrderState,
    attribution::{Attributed, Creator, Rule, Touch},
    followup::{FollowupRule, Timer},
    ledger::Answer,
    milestones::{History, Milestone, Milestones},
    split::{Shares, Split},
};

/// What the operator decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// How long touches count.
    pub attribution: Rule,
    /// How money is divided, where a creator has no share of their own.
    pub shares: Shares,
    /// What buyers come to.
    pub milestones: Milestones,
}

/// How the division of an order's money was written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    /// Whose doing the order was, if anybody's.
    pub attributed: Option<Attributed>,
    /// Who looked after them then.
    pub agency: Option<AgencyId>,
    /// The parts of all that was paid.
    pub split: Split,
    /// What was taken back of them.
    pub reversed: Split,
    /// Nothing of it may be paid out: the buyer disputes the payment.
    pub frozen: bool,
}

/// Whether the buyer's bank wants the money back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Disputed {
    /// No, or not any more.
    #[default]
    No,
    /// It is not decided.
    Open,
    /// The money is gone.
    Lost,
}

/// What is known of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The order.
    pub order: Order,
    /// When it was sold, if it was.
    pub sold_at: Option<UnixMillis>,
    /// How much of it went back, in minor units.
    pub refunded_minor: i64,
    /// Its products whose money has all gone back.
    pub gone: Vec<ProductId>,
    /// Whether it is disputed.
    pub disputed: Disputed,
    /// What its buyer did under somebody's `ref` before.
    pub touches: Vec<Touch>,
    /// The creators of those touches who are active.
    pub creators: Vec<Creator>,
    /// What was written down of it before.
    pub booked: Option<Booking>,
    /// What its buyer had paid before.
    pub history: History,
    /// What its products want to be followed up by.
    pub followups: Vec<Wanted>,
}

/// What a product of an order wants to be followed up by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Which product.
    pub product: ProductId,
    /// Units of it, of all its variants.
    pub quantity: u32,
    /// By what.
    pub rule: FollowupRule,
}

/// What is to be written down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Effects {
    /// The order's money, divided.
    pub book: Option<Booking>,
    /// What is taken back of it now; less than nothing where what was taken is given back.
    pub reverse: Option<Split>,
    /// Whether it may be paid out has changed.
    pub freeze: Option<bool>,
    /// What the buyer has come to; each is told once a buyer, whatever comes.
    pub milestones: Vec<Milestone>,
    /// Timers to be set.
    pub timers: Vec<Timer>,
    /// Products of which nothing was kept: their timers that are set and not due yet are taken back.
    pub cancel_timers: Vec<ProductId>,
}

/// What follows from an order as it is now.
pub fn follow(facts: &Facts, rules: &Rules) -> Effects {
    let mut effects = Effects::default();
    let (order, total) = (&facts.order.order, facts.order.order.total);
    // Whatever became of it since: what was never sold has no consequences.
    let Some(sold_at) = facts.sold_at else { return effects };
    let booked = match &facts.booked {
        Some(booked) => booked.clone(),
        None => {
            let booking = book(facts, rules);
            effects.milestones = rules.milestones.passed(facts.history, total);
            effects.timers = timers(facts, sold_at);
            effects.book = Some(booking.clone());
            booking
        }
    };
    let back = match facts.disputed {
        Disputed::Lost => total.amount_minor,
        Disputed::No | Disputed::Open if facts.order.state == OrderState::Refunded => total.amount_minor,
        Disputed::No | Disputed::Open => facts.refunded_minor.min(total.amount_minor),
    };
    let missing = back - booked.reversed.total();
    if missing > 0 {
        effects.reverse = Some(booked.split.minus(&booked.reversed).reversal(missing));
    } else if missing < 0 {
        // Money that had gone came back.
        effects.reverse = Some(Split::default().minus(&booked.reversed.reversal(-missing)));
    }
    let freeze = facts.disputed == Disputed::Open;
    if freeze != booked.frozen {
        effects.freeze = Some(freeze);
    }
    // Nothing was kept of these that could be asked after.
    let all_is_back = back >= total.amount_minor;
    let mut products: BTreeSet<&ProductId> =
        facts.order.order.lines.iter().map(|line| &line.product).collect();
    products.retain(|product| all_is_back || facts.gone.contains(product));
    effects.timers.retain(|timer| !products.contains(&timer.product));
    effects.cancel_timers = products.into_iter().cloned().collect();
    debug_assert_eq!(order.total.amount_minor, booked.split.total());
    effects
}

fn book(facts: &Facts, rules: &Rules) -> Booking {
    let order = &facts.order.order;
    let creator = |id: &_| facts.creators.iter().find(|creator| creator.id == *id);
    // Who is not active any more is as good as not there; so is the buyer themselves.
    let is_out = |id: &_| creator(id).is_none_or(|creator| creator.buyer.as_ref() == Some(&order.buyer));
    let attributed = rules.attribution.winner(order, &facts.touches, is_out);
    let creator = attributed.as_ref().and_then(|attributed| creator(&attributed.creator));
    let agency = creator.and_then(|creator| creator.agency.clone());
    let mut shares = rules.shares;
    if let Some(bps) = creator.and_then(|creator| creator.creator_bps) {
        shares.creator_bps = bps;
    }
    if !shares.fit() {
        // A creator's own share was agreed on before the server's were raised: theirs stands, as far as there is room.
        shares.creator_bps = shares.creator_bps.min(crate::split::WHOLE_BPS);
        shares.platform_bps = shares.platform_bps.min(crate::split::WHOLE_BPS - shares.creator_bps);
        let left = crate::split::WHOLE_BPS - shares.creator_bps - shares.platform_bps;
        shares.agency_bps = shares.agency_bps.min(left);
    }
    Booking {
        split: shares.split(order.total, creator.is_some(), agency.is_some()),
        attributed,
        agency,
        reversed: Split::default(),
        frozen: false,
    }
}

fn timers(facts: &Facts, sold_at: UnixMillis) -> Vec<Timer> {
    let order = &facts.order.order;
    let timer = |Wanted { product, quantity, rule }: &Wanted| Timer {
        merchant: order.merchant.clone(),
        order: order.id.clone(),
        product: product.clone(),
        buyer: order.buyer.clone(),
        name: rule.name.clone(),
        due_at: rule.due_at(sold_at, *quantity),
    };
    facts.followups.iter().map(timer).collect()
}

/// What a store follows up in one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Turn {
    /// Orders looked at.
    pub orders: u32,
    /// Timers that became due and were told.
    pub timers: u32,
}

/// How a store decides: [`follow`] with the operator's rules.
pub type Decide<'a> = &'a (dyn Fn(&Facts) -> Effects + Send + Sync);

/// Carries out what follows from orders.
pub trait Follower: Send + Sync + 'static {
    /// Takes up to `limit` orders of which something is new, and in one transaction writes down what `decide` says
    /// follows. Then tells of up to `limit` timers that are due at `now`. Each order's news and each timer is taken once,
    /// whatever fails in between.
    fn follow_orders<'a>(&'a self, decide: Decide<'a>, now: UnixMillis, limit: u32) -> Answer<'a, Turn>;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use haul_model::Money;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        OrderLine,
        attribution::{CreatorKind, TouchKind},
    };

    const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

    fn rules() -> Rules {
        let day = Duration::from_secs(86_400);
        Rules {
            attribution: Rule { click_window: 7 * day, join_window: day },
            shares: Shares { platform_bps: 500, agency_bps: 300, creator_bps: 1_000 },
            milestones: Milestones { orders: vec![1, 5], spent: Vec::new() },
        }
    }

    fn creator(id: &str) -> Creator {
        Creator {
            id: id.parse().unwrap(),
            merchant: haul_model::MerchantId::main(),
            name: id.to_owned(),
            kind: CreatorKind::Koc,
            code: id.to_owned(),
            agency: None,
            buyer: None,
            creator_bps: None,
            active: true,
        }
    }

    /// All products of [`facts`].
    fn lamps() -> Vec<ProductId> {
        vec!["lamp".parse().unwrap()]
    }

    /// An order of 99.99 that Mia brought, sold.
    fn facts() -> Facts {
        let total = Money { amount_minor: 9_999, currency: "EUR".parse().unwrap() };
        let order = crate::testing::order("hold_1", "ann", 3, total, NOW);
        let touch = Touch {
            kind: TouchKind::Click,
            creator: Some("mia".parse().unwrap()),
            buyer: Some("ann".parse().unwrap()),
            live: "demo".parse().unwrap(),
            product: None,
            hold: None,
            at: NOW,
        };
        Facts {
            order: crate::testing::sold(order),
            sold_at: Some(NOW),
            refunded_minor: 0,
            gone: Vec::new(),
            disputed: Disputed::No,
            touches: vec![touch],
            creators: vec![creator("mia")],
            booked: None,
            history: History::default(),
            followups: vec![Wanted {
                product: "lamp".parse().unwrap(),
                quantity: 3,
                rule: FollowupRule {
                    name: "refill".to_owned(),
                    after_seconds: 86_400,
                    per_extra_unit_seconds: 60,
                },
            }],
        }
    }

    /// What a store does with the effects.
    fn apply(facts: &mut Facts, effects: &Effects) {
        if let Some(booking) = &effects.book {
            facts.booked = Some(booking.clone());
        }
        let Some(booked) = &mut facts.booked else { return };
        if let Some(back) = &effects.reverse {
            booked.reversed = booked.reversed.plus(back);
        }
        booked.frozen = effects.freeze.unwrap_or(booked.frozen);
    }

    #[test]
    fn a_sold_order_is_booked_once() {
        let mut facts = facts();
        let effects = follow(&facts, &rules());
        let booking = effects.book.clone().unwrap();
        assert_eq!(booking.attributed.as_ref().map(|attributed| attributed.creator.as_str()), Some("mia"));
        assert_eq!(booking.split, Split([8_199, 500, 0, 1_300]));
        assert_eq!(effects.milestones, [Milestone::Orders(1)]);
        assert_eq!(effects.timers[0].due_at, NOW + Duration::from_secs(86_520));
        apply(&mut facts, &effects);
        assert_eq!(follow(&facts, &rules()), Effects::default());
    }

    #[test]
    fn only_what_was_sold_has_consequences() {
        let mut facts = facts();
        facts.sold_at = None;
        facts.order.state = OrderState::RefundDue;
        assert_eq!(follow(&facts, &rules()), Effects::default());
    }

    #[test]
    fn what_was_sold_and_wholly_refunded_is_taken_back_whatever_it_is_called() {
        let mut facts = facts();
        let effects = follow(&facts, &rules());
        apply(&mut facts, &effects);
        facts.order.state = OrderState::Refunded;
        let effects = follow(&facts, &rules());
        assert_eq!(effects.reverse, Some(Split([8_199, 500, 0, 1_300])));
        assert_eq!(effects.cancel_timers, lamps());
    }

    #[test]
    fn who_is_gone_or_buys_for_themselves_earns_nothing() {
        let mut gone = facts();
        gone.creators.clear();
        assert_eq!(follow(&gone, &rules()).book.unwrap().attributed, None);
        let mut herself = facts();
        herself.creators[0].buyer = Some("ann".parse().unwrap());
        assert_eq!(follow(&herself, &rules()).book.unwrap().split, Split([9_499, 500, 0, 0]));
    }

    #[test]
    fn a_share_of_ones_own_is_kept_as_far_as_there_is_room() {
        let mut facts = facts();
        facts.creators[0].creator_bps = Some(9_900);
        let booking = follow(&facts, &rules()).book.unwrap();
        assert_eq!(booking.split, Split([0, 100, 0, 9_899]));
    }

    #[test]
    fn a_dispute_freezes_and_its_end_frees_or_takes_back() {
        let mut facts = facts();
        let effects = follow(&facts, &rules());
        apply(&mut facts, &effects);
        facts.disputed = Disputed::Open;
        let effects = follow(&facts, &rules());
        assert_eq!((effects.freeze, effects.reverse), (Some(true), None));
        facts.booked.as_mut().unwrap().frozen = true;
        facts.disputed = Disputed::No;
        assert_eq!(follow(&facts, &rules()).freeze, Some(false));
        facts.disputed = Disputed::Lost;
        let effects = follow(&facts, &rules());
        assert_eq!(
            (effects.freeze, effects.reverse, effects.cancel_timers),
            (Some(false), Some(Split([8_199, 500, 0, 1_300])), lamps())
        );
    }

    #[test]
    fn a_full_refund_takes_timers_back_and_a_partial_one_does_not() {
        let mut facts = facts();
        facts.refunded_minor = 1;
        let effects = follow(&facts, &rules());
        assert_eq!((effects.timers.len(), effects.cancel_timers), (1, Vec::new()));
        assert_eq!(effects.reverse.unwrap().total(), 1);
        facts.refunded_minor = 9_999;
        let effects = follow(&facts, &rules());
        assert_eq!((effects.timers.len(), effects.cancel_timers), (0, lamps()));
    }

    #[test]
    fn a_product_whose_money_is_back_is_not_asked_after_and_the_others_are() {
        let mut facts = facts();
        let mug =
            OrderLine { line: 1, product: "mug".parse().unwrap(), ..facts.order.order.lines[0].clone() };
        facts.order.order.lines.push(mug);
        let wanted = Wanted { product: "mug".parse().unwrap(), ..facts.followups[0].clone() };
        facts.followups.push(wanted);
        (facts.refunded_minor, facts.gone) = (4_000, lamps());
        let effects = follow(&facts, &rules());
        let timers: Vec<_> = effects.timers.iter().map(|timer| timer.product.as_str()).collect();
        assert_eq!((timers, &effects.cancel_timers), (vec!["mug"], &lamps()));
        apply(&mut facts, &effects);
        facts.gone.push("mug".parse().unwrap());
        assert_eq!(follow(&facts, &rules()).cancel_timers.len(), 2);
    }

    #[test]
    fn whatever_happens_in_whatever_pieces_the_books_are_right() {
        let mut rng = StdRng::seed_from_u64(9);
        for _ in 0..3_000 {
            let mut facts = facts();
            facts.order.order.total.amount_minor = rng.random_range(1..50_000);
            let total = facts.order.order.total.amount_minor;
            let mut booked = 0;
            for _ in 0..rng.random_range(1..12) {
                match rng.random_range(0..4) {
                    0 => facts.refunded_minor = rng.random_range(0..=total),
                    1 => facts.disputed = Disputed::Open,
                    2 => facts.disputed = Disputed::No,
                    _ => {}
                }
                // Not each thing that happens is looked at by itself.
                if rng.random_bool(0.7) {
                    let effects = follow(&facts, &rules());
                    booked += usize::from(effects.book.is_some());
                    apply(&mut facts, &effects);
                    let Booking { split, reversed, frozen, .. } = facts.booked.as_ref().unwrap();
                    assert_eq!(split.total(), total);
                    assert_eq!(reversed.total(), facts.refunded_minor);
                    assert!(reversed.0.iter().zip(split.0).all(|(back, part)| (0..=part).contains(back)));
                    assert_eq!(*frozen, facts.disputed == Disputed::Open);
                    assert_eq!(
                        follow(&facts, &rules()),
                        Effects {
                            cancel_timers: if facts.refunded_minor == total { lamps() } else { Vec::new() },
                            ..Effects::default()
                        }
                    );
                }
            }
            assert!(booked <= 1);
        }
    }
}
