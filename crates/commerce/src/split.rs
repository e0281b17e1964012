//! What an order's money is divided into: merchant, platform, agency and creator. The parts always sum to the whole, and
//! what is taken back for refunds sums to what was refunded, to the last minor unit.

use haul_model::Money;
use serde::{Deserialize, Serialize};

/// All of it, in hundredths of a percent.
pub const WHOLE_BPS: u32 = 10_000;

/// Divides `amount` by `weights` after the method of largest remainders: each part is its exact share rounded down, and
/// the units left over go one each to those who lost most by rounding, the earlier of two equals first. The parts sum to
/// `amount`. Without any weight, the first part is all.
///
/// `amount` is not negative.
pub fn allocate<const N: usize>(amount: i64, weights: [u64; N]) -> [i64; N] {
    let mut parts = [0_i64; N];
    let whole: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if whole == 0 {
        if let Some(first) = parts.first_mut() {
            *first = amount;
        }
        return parts;
    }
    let amount = u128::from(amount.unsigned_abs());
    let mut left = amount;
    let mut losses = [(0_u128, 0_usize); N];
    for (index, weight) in weights.into_iter().enumerate() {
        let share = amount * u128::from(weight);
        parts[index] =
            i64::try_from(share / whole).expect("a part is no more than the amount, which is an i64");
        losses[index] = (share % whole, index);
        left -= share / whole;
    }
    losses.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    // Fewer than there are parts: each lost less than one unit.
    for (_, index) in losses.into_iter().take(left as usize) {
        parts[index] += 1;
    }
    parts
}

/// Who gets how much of an order, in hundredths of a percent; the merchant gets the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shares {
    /// Of every order.
    pub platform_bps: u32,
    /// Of an order that a creator with an agency brought. Without an agency, it is the creator's.
    pub agency_bps: u32,
    /// Of an order that a creator brought.
    pub creator_bps: u32,
}

impl Shares {
    /// Whether they are no more than all of it.
    pub fn fit(&self) -> bool {
        let Self { platform_bps, agency_bps, creator_bps } = *self;
        u64::from(platform_bps) + u64::from(agency_bps) + u64::from(creator_bps) <= u64::from(WHOLE_BPS)
    }

    /// The split of an order.
    pub fn split(&self, total: Money, has_creator: bool, has_agency: bool) -> Split {
        let Self { platform_bps, agency_bps, creator_bps } = *self;
        let (agency, creator) = match (has_creator, has_agency) {
            (false, _) => (0, 0),
            (true, false) => (0, agency_bps + creator_bps),
            (true, true) => (agency_bps, creator_bps),
        };
        let rest = WHOLE_BPS.saturating_sub(platform_bps + agency + creator);
        let weights = [rest, platform_bps, agency, creator].map(u64::from);
        Split(allocate(total.amount_minor.max(0), weights))
    }
}

/// Minor units of an order's currency by who gets them: merchant, platform, agency, creator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Split(pub [i64; 4]);

impl Split {
    /// The merchant's part.
    pub fn merchant(&self) -> i64 {
        self.0[0]
    }

    /// The platform's.
    pub fn platform(&self) -> i64 {
        self.0[1]
    }

    /// The agency's.
    pub fn agency(&self) -> i64 {
        self.0[2]
    }

    /// The creator's.
    pub fn creator(&self) -> i64 {
        self.0[3]
    }

    /// All parts together.
    pub fn total(&self) -> i64 {
        self.0.iter().sum()
    }

    /// What is left when `other` is taken away.
    pub fn minus(&self, other: &Split) -> Split {
        let mut left = *self;
        left.0.iter_mut().zip(other.0).for_each(|(part, other)| *part -= other);
        left
    }

    /// Both together.
    pub fn plus(&self, other: &Split) -> Split {
        let mut sum = *self;
        sum.0.iter_mut().zip(other.0).for_each(|(part, other)| *part += other);
        sum
    }

    /// What each gives back of what they still have when `amount` is refunded; of more than there is, all. Each refund is
    /// divided by what is left then, so nobody gives back more than they have, and when all is refunded, nobody keeps or
    /// owes anything.
    pub fn reversal(&self, amount: i64) -> Split {
        let amount = amount.clamp(0, self.total().max(0));
        Split(allocate(amount, self.0.map(|part| part.max(0).unsigned_abs()))).filter_nothing(amount)
    }

    /// Without any weight, the first part of an allocation is all: right for a split, wrong for nothing.
    fn filter_nothing(self, amount: i64) -> Self {
        if amount == 0 { Self::default() } else { self }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    fn eur(amount_minor: i64) -> Money {
        Money { amount_minor, currency: "EUR".parse().unwrap() }
    }

    #[test]
    fn rounding_goes_to_who_lost_most_by_it() {
        assert_eq!(allocate(100, [1, 1, 1]), [34, 33, 33]);
        assert_eq!(allocate(101, [1, 1, 1]), [34, 34, 33]);
        assert_eq!(allocate(1, [10, 89, 1]), [0, 1, 0]);
        assert_eq!(allocate(5, [0, 0]), [5, 0]);
        assert_eq!(allocate(i64::MAX, [u64::MAX, u64::MAX]), [i64::MAX / 2 + 1, i64::MAX / 2]);
    }

    #[test]
    fn an_order_without_creator_or_agency_pays_none() {
        let shares = Shares { platform_bps: 500, agency_bps: 300, creator_bps: 1_000 };
        assert_eq!(shares.split(eur(10_000), true, true), Split([8_200, 500, 300, 1_000]));
        assert_eq!(shares.split(eur(10_000), true, false), Split([8_200, 500, 0, 1_300]));
        assert_eq!(shares.split(eur(10_000), false, true), Split([9_500, 500, 0, 0]));
        assert_eq!(shares.split(eur(1), true, true).total(), 1);
    }

    #[test]
    fn parts_always_sum_and_are_within_one_unit_of_exact() {
        let mut rng = StdRng::seed_from_u64(1);
        for _ in 0..20_000 {
            let weights: [u64; 4] = std::array::from_fn(|_| rng.random_range(0..4_000));
            let amount = match rng.random_range(0..3) {
                0 => rng.random_range(0..50),
                1 => rng.random_range(0..1_000_000),
                _ => rng.random_range(0..=i64::MAX),
            };
            let parts = allocate(amount, weights);
            assert_eq!(parts.iter().map(|part| i128::from(*part)).sum::<i128>(), i128::from(amount));
            let whole: u64 = weights.iter().sum();
            for (part, weight) in parts.into_iter().zip(weights) {
                if whole > 0 {
                    let exact = i128::from(amount) * i128::from(weight);
                    assert!((i128::from(part) * i128::from(whole) - exact).abs() < i128::from(whole));
                }
            }
        }
    }

    #[test]
    fn any_refunds_take_back_exactly_what_they_are_and_in_the_end_everything() {
        let mut rng = StdRng::seed_from_u64(2);
        for _ in 0..5_000 {
            let shares = Shares {
                platform_bps: rng.random_range(0..2_000),
                agency_bps: rng.random_range(0..2_000),
                creator_bps: rng.random_range(0..6_000),
            };
            assert!(shares.fit());
            let total = rng.random_range(1..2_000);
            let split = shares.split(eur(total), rng.random(), rng.random());
            assert_eq!(split.total(), total);
            let (mut left, mut reversed) = (split, Split::default());
            while left.total() > 0 {
                let amount = rng.random_range(0..=left.total());
                let reversal = left.reversal(amount);
                assert_eq!(reversal.total(), amount);
                assert!(
                    reversal.0.iter().zip(left.0).all(|(back, had)| (0..=had).contains(back)),
                    "{left:?}"
                );
                (left, reversed) = (left.minus(&reversal), reversed.plus(&reversal));
            }
            assert_eq!((left, reversed), (Split::default(), split));
            assert_eq!(left.reversal(100), Split::default(), "nothing is left to give back");
        }
    }
}
