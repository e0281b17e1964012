//! What is to happen when: a scenario unrolled into steps in time. Pure: virtual time, and the seed decides.

use std::time::Duration;

use crate::{
    random::Random,
    scenario::{Amount, Coming, Scenario, Transport},
};

/// An actor within its kind: viewers, chatters and buyers are each numbered from 0.
pub(crate) type Number = u32;

/// A kind of actors whose networks may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Viewer,
    Chatter,
    Buyer,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Viewer, Self::Chatter, Self::Buyer];
}

/// Something to be done at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// The host begins to send, or does so again.
    Publish,
    /// The host's network fails.
    Vanish,
    /// A viewer comes.
    Watch(Number),
    /// A viewer leaves.
    Unwatch(Number),
    /// Somebody opens the channel.
    Enter(Number),
    /// Somebody closes it.
    Exit(Number),
    /// A buyer opens the channel, and waits for the sale.
    Queue(Number),
    /// The host pins the next product.
    Pin,
    /// The sale opens.
    Sell,
    /// A fault by its place in the scenario.
    Break(usize),
}

/// How a viewer is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ViewerTraits {
    /// Every packet is decrypted.
    pub(crate) decrypt: bool,
    pub(crate) transport: Transport,
}

/// A search for capacity, drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Stairs {
    pub(crate) start: u32,
    pub(crate) step: u32,
    pub(crate) every_s: f64,
    pub(crate) max: u32,
    /// The number of the first viewer who is added.
    pub(crate) first: Number,
}

impl Stairs {
    /// How many viewers there are in a step, the first being 0.
    pub(crate) fn viewers(&self, step: u32) -> u32 {
        self.start.saturating_add(step.saturating_mul(self.step)).min(self.max)
    }
}

/// How somebody on the channel behaves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ChatterTraits {
    /// Which group of the scenario.
    pub(crate) group: usize,
}

/// What becomes of a hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Pay,
    GiveBack,
    /// Walk away without a word: it runs out.
    Abandon,
}

/// How a buyer behaves. Drawn beforehand, so that the server's answers don't change what is drawn next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BuyerTraits {
    /// Which group of the scenario.
    pub(crate) group: usize,
    pub(crate) tap_after: Duration,
    pub(crate) decide: Duration,
    pub(crate) quantity: u32,
    pub(crate) then: Decision,
    pub(crate) repeats: bool,
    pub(crate) retries: u32,
}

/// The plan of a run in one live.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// In order of time.
    pub(crate) steps: Vec<(Duration, Step)>,
    pub(crate) viewers: Vec<ViewerTraits>,
    pub(crate) chatters: Vec<ChatterTraits>,
    pub(crate) buyers: Vec<BuyerTraits>,
    /// Every how many pictures one is stamped.
    pub(crate) stamp_every: u32,
    pub(crate) stairs: Option<Stairs>,
}

/// Streams of random numbers, so that a change in one part of a scenario leaves the others as they were.
mod stream {
    pub(super) const HOST: u64 = 1;
    pub(super) const VIEWERS: u64 = 1 << 32;
    pub(super) const CHATTERS: u64 = 2 << 32;
    pub(super) const BUYERS: u64 = 3 << 32;
    pub(super) const CAPACITY: u64 = 5 << 32;
    pub(super) const NETWORKS: u64 = 6 << 32;
}

/// Whose networks a fault takes away, and for how long: a share of `count` actors, exact but for one, spread over all of
/// them.
pub(crate) fn networks_hit(
    seed: u64,
    fault: usize,
    kind: Kind,
    share: Amount,
    for_s: Amount,
    count: usize,
) -> Vec<(Number, Duration)> {
    /// The golden ratio: its multiples spread most evenly, whatever other patterns there are among the actors.
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    let mut random = Random::new(seed, stream::NETWORKS + ((fault as u64) << 2) + kind as u64);
    let (share, first) = (share.draw(&mut random), random.unit());
    let hit = |number: &Number| (first + f64::from(*number) * GOLDEN).fract() < share;
    (0..count as Number).filter(hit).map(|number| (number, for_s.draw_seconds(&mut random))).collect()
}

/// The seed's sequence for what a chatter says and when.
pub(crate) fn chatter_random(seed: u64, number: Number) -> Random {
    Random::new(seed, (4 << 32) + u64::from(number))
}

impl Plan {
    /// How many actors of a kind there are.
    pub(crate) fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Viewer => self.viewers.len(),
            Kind::Chatter => self.chatters.len(),
            Kind::Buyer => self.buyers.len(),
        }
    }

    /// Unrolls a scenario.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let end = scenario.duration();
        let mut plan = Self {
            steps: vec![],
            viewers: vec![],
            chatters: vec![],
            buyers: vec![],
            stamp_every: 1,
            stairs: None,
        };
        let mut random = Random::new(scenario.seed, stream::HOST);
        if let Some(publisher) = &scenario.publisher {
            plan.stamp_every = publisher.stamp_every.draw_count(&mut random);
            plan.steps.push((Duration::ZERO, Step::Publish));
            for away in &publisher.away {
                let at = away.at_s.draw_seconds(&mut random);
                plan.steps.push((at, Step::Vanish));
                plan.steps.push((at + away.for_s.draw_seconds(&mut random), Step::Publish));
            }
        }
        if let Some(host) = &scenario.host {
            let mut at = host.pin_every_s.draw_seconds(&mut random);
            while at < end {
                plan.steps.push((at, Step::Pin));
                at += host.pin_every_s.draw_seconds(&mut random).max(Duration::from_millis(100));
            }
        }
        if let Some(sale) = &scenario.sale {
            plan.steps.push((sale.at_s.draw_seconds(&mut random), Step::Sell));
        }
        for (index, fault) in scenario.faults.iter().enumerate() {
            plan.steps.push((fault.at_s.draw_seconds(&mut random), Step::Break(index)));
        }
        for (index, group) in scenario.viewers.iter().enumerate() {
            let mut random = Random::new(scenario.seed, stream::VIEWERS + index as u64);
            let first = plan.viewers.len();
            let count = group.count.draw_count(&mut random);
            let share = group.decrypt.draw(&mut random);
            for at in 0..count {
                // Spread evenly, so that a small share of a large group is hit exactly.
                let nth = |at: u32| (f64::from(at) * share).ceil();
                let decrypt = nth(at + 1) > nth(at);
                plan.viewers.push(ViewerTraits { decrypt, transport: group.transport });
            }
            plan.group(group.coming(), first, count, end, &mut random, Step::Watch, Some(Step::Unwatch));
        }
        if let Some(capacity) = &scenario.capacity {
            let mut random = Random::new(scenario.seed, stream::CAPACITY);
            let first = plan.viewers.len() as Number;
            let stairs = Stairs {
                first,
                start: capacity.start.draw_count(&mut random),
                step: capacity.step.draw_count(&mut random),
                every_s: capacity.every_s.draw(&mut random),
                max: capacity.max.draw_count(&mut random),
            };
            for at in 0..stairs.max {
                plan.viewers.push(ViewerTraits { decrypt: at % 20 == 0, transport: Transport::WebRtc });
                let step = if at < stairs.start { 0 } else { 1 + (at - stairs.start) / stairs.step };
                let (from, of) = match step {
                    0 => (0, stairs.start),
                    step => (stairs.start + (step - 1) * stairs.step, stairs.step),
                };
                // The first half of a step is for joining, so that the second half is calm.
                let share = f64::from(at - from) / f64::from(of);
                let time = stairs.every_s * (f64::from(step) + 0.5 * share);
                if time < scenario.duration_s {
                    plan.steps.push((Duration::from_secs_f64(time), Step::Watch(first + at)));
                }
            }
            plan.stairs = Some(stairs);
        }
        for (index, group) in scenario.chatters.iter().enumerate() {
            let mut random = Random::new(scenario.seed, stream::CHATTERS + index as u64);
            let first = plan.chatters.len();
            let count = group.count.draw_count(&mut random);
            plan.chatters.extend((0..count).map(|_| ChatterTraits { group: index }));
            plan.group(group.coming(), first, count, end, &mut random, Step::Enter, Some(Step::Exit));
        }
        for (index, group) in scenario.buyers.iter().enumerate() {
            let mut random = Random::new(scenario.seed, stream::BUYERS + index as u64);
            let first = plan.buyers.len();
            let count = group.count.draw_count(&mut random);
            let (pay, repeat) = (group.pay.draw(&mut random), group.repeat.draw(&mut random));
            let abandon = group.abandon.draw(&mut random);
            for _ in 0..count {
                plan.buyers.push(BuyerTraits {
                    group: index,
                    tap_after: group.tap_after_ms.draw_millis(&mut random),
                    decide: group.decide_ms.draw_millis(&mut random),
                    quantity: group.quantity.draw_count(&mut random).max(1),
                    then: match random.unit() {
                        drawn if drawn < pay => Decision::Pay,
                        drawn if drawn < pay + abandon => Decision::Abandon,
                        _ => Decision::GiveBack,
                    },
                    repeats: random.chance(repeat),
                    retries: group.retries.draw_count(&mut random),
                });
            }
            plan.group(group.coming(), first, count, end, &mut random, Step::Queue, None);
        }
        // Stable: what is planned for the same moment happens in the order above, the host first.
        plan.steps.sort_by_key(|(at, _)| *at);
        plan
    }

    #[allow(clippy::too_many_arguments)]
    fn group(
        &mut self,
        coming: Coming,
        first: usize,
        count: Number,
        end: Duration,
        random: &mut Random,
        come: fn(Number) -> Step,
        go: Option<fn(Number) -> Step>,
    ) {
        let start = coming.join_at_s.draw_seconds(random);
        let over = coming.join_over_s.draw(random);
        let steps = coming.join_steps.draw_count(random);
        for at in 0..count {
            let mut share = f64::from(at) / f64::from(count);
            if steps > 0 {
                share = (share * f64::from(steps)).floor() / f64::from(steps);
            }
            let mut time = start + Duration::from_secs_f64(over * share);
            let number = first as Number + at;
            while time < end {
                self.steps.push((time, come(number)));
                let (Some(go), Some(stay)) = (go, coming.stay_s) else { break };
                time += stay.draw_seconds(random);
                if time >= end {
                    break;
                }
                self.steps.push((time, go(number)));
                let Some(away) = coming.return_after_s else { break };
                time += away.draw_seconds(random);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str) -> Plan {
        let head = "about = \"x\"\nduration_s = 60\nlevels = [\"join.failed == 0\"]\n";
        Plan::new(&Scenario::parse(&format!("{head}{text}"), "test").unwrap())
    }

    fn times(plan: &Plan, wanted: impl Fn(&Step) -> bool) -> Vec<f64> {
        plan.steps.iter().filter(|(_, step)| wanted(step)).map(|(at, _)| at.as_secs_f64()).collect()
    }

    #[test]
    fn the_seed_decides_everything() {
        let text = |seed| {
            format!(
                "seed = {seed}\n[[viewers]]\ncount = [50, 80]\nstay_s = [1, 9]\nreturn_after_s = [0, 3]\n\
                 [[buyers]]\ncount = 9\ntap_after_ms = [0, 900]\npay = 0.5\n[sale]\nat_s = [3, 9]\nstock = 5\n"
            )
        };
        assert_eq!(plan(&text(5)), plan(&text(5)));
        assert_ne!(plan(&text(5)), plan(&text(6)));
    }

    #[test]
    fn a_ramp_is_even_steps_are_at_once_and_a_herd_is_one_moment() {
        let is_join = |step: &Step| matches!(step, Step::Watch(_));
        let ramp = plan("[[viewers]]\ncount = 10\njoin_at_s = 5\njoin_over_s = 10");
        let ramp = times(&ramp, is_join);
        assert_eq!((ramp[0], ramp[1], ramp[9]), (5.0, 6.0, 14.0));
        let steps = times(&plan("[[viewers]]\ncount = 10\njoin_over_s = 10\njoin_steps = 2"), is_join);
        assert_eq!((steps[4], steps[5], steps[9]), (0.0, 5.0, 5.0));
        let herd = times(&plan("[[viewers]]\ncount = 500\njoin_at_s = 2"), is_join);
        assert!(herd.iter().all(|at| *at == 2.0) && herd.len() == 500);
    }

    #[test]
    fn leavers_return_in_turn_and_nothing_is_planned_after_the_end() {
        let plan = plan("[[viewers]]\ncount = 3\nstay_s = [1, 5]\nreturn_after_s = [1, 2]");
        for viewer in 0..3 {
            let of = plan
                .steps
                .iter()
                .filter(|(_, step)| matches!(step, Step::Watch(n) | Step::Unwatch(n) if *n == viewer));
            for (index, (at, step)) in of.enumerate() {
                assert_eq!(index % 2 == 0, matches!(step, Step::Watch(_)), "in turn");
                assert!(at.as_secs() < 60);
            }
        }
        assert!(plan.steps.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn the_host_comes_first_goes_and_returns() {
        let plan =
            plan("[publisher]\nclip = \"vp8\"\naway = [{ at_s = 20, for_s = 5 }]\n[[viewers]]\ncount = 1");
        assert_eq!(plan.steps[0].1, Step::Publish);
        assert_eq!(times(&plan, |step| *step == Step::Vanish), [20.0]);
        assert_eq!(times(&plan, |step| *step == Step::Publish), [0.0, 25.0]);
    }

    #[test]
    fn the_share_that_is_decrypted_is_exact() {
        for (share, truth) in [("0.02", 2), ("0.0", 0), ("1.0", 100), ("0.05", 5)] {
            let plan = plan(&format!("[[viewers]]\ncount = 100\ndecrypt = {share}"));
            assert_eq!(plan.viewers.iter().filter(|viewer| viewer.decrypt).count(), truth, "{share}");
        }
    }

    #[test]
    fn a_share_of_the_networks_fails_as_the_seed_says() {
        let hit = |seed, fault, share: f64| {
            networks_hit(seed, fault, Kind::Buyer, Amount::fixed(share), Amount::fixed(2.0), 1_000)
        };
        assert_eq!(hit(1, 0, 0.33), hit(1, 0, 0.33));
        assert_ne!(hit(1, 0, 0.33), hit(2, 0, 0.33));
        assert_ne!(hit(1, 0, 0.33), hit(1, 1, 0.33));
        for (share, truth) in [(0.0, 0), (1.0, 1_000), (0.33, 330), (0.01, 10)] {
            let hit = hit(1, 0, share).len();
            assert!(hit.abs_diff(truth) <= 1, "{hit} for {share}");
        }
        let even = hit(5, 0, 0.5).iter().filter(|(number, _)| number % 2 == 0).count();
        assert!(even.abs_diff(250) < 10, "no pattern is hit alone: {even}");
    }

    #[test]
    fn holds_are_paid_given_back_or_abandoned_by_their_shares() {
        let sale = "[sale]\nat_s = 1\nstock = 5\nhold_s = 9\n";
        let plan =
            plan(&format!("{sale}[[buyers]]\ncount = 5000\ntap_after_ms = 0\npay = 0.7\nabandon = 0.2"));
        for (then, truth) in [(Decision::Pay, 3_500), (Decision::Abandon, 1_000), (Decision::GiveBack, 500)] {
            let count = plan.buyers.iter().filter(|buyer| buyer.then == then).count();
            assert!(count.abs_diff(truth) < 150, "{then:?}: {count}");
        }
    }

    #[test]
    fn capacity_grows_in_steps() {
        let plan = plan("[capacity]\nstart = 10\nstep = 5\nevery_s = 10\nmax = 30");
        let at = times(&plan, |step| matches!(step, Step::Watch(_)));
        assert_eq!(at.len(), 30);
        assert_eq!((at[0], at[10], at[15]), (0.0, 10.0, 20.0));
        assert!(at[9] < 5.0 && at[14] < 15.0, "joining ends at half time");
    }
}
