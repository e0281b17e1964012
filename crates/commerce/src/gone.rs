//! What is sold out: who asks for it can be answered without a place in the gate's batch.
//!
//! A refusal may be said here only where the gate would say it too. So it is said for those whose key has nothing at the gate,
//! and only beside an answer of the gate's that came after they had asked and shows that nothing has come back: restocked
//! units and added stock reopen the sale at once, whichever server they were told to.
//!
//! Nothing is sold out while units are held, and what is sold is in the ledger before the gate says so. The ledger's keys
//! and those that were forwarded from here are therefore all that can have anything: they always go to the gate.

use std::collections::HashSet;

use haul_model::HoldId;

use crate::{Applied, Counts, Mark, Op, Outcome, Refusal, Units, sale::MAX_STOCK};

/// Keys remembered of one sale; with more, everything is asked of the gate as if nothing was sold out.
pub const MAX_KEYS: usize = 100_000;

/// What of one sale is sold out, and whose keys may have something all the same.
#[derive(Debug, Clone, Default)]
pub struct Gone {
    /// Of the newest counts: answers may overtake each other.
    mark: Mark,
    /// By line, whether nothing of it is available or held.
    lines: Vec<bool>,
    /// Keys that have something at the gate, or may have.
    keys: HashSet<HoldId>,
    /// Whether the ledger's are among them.
    complete: bool,
    /// The ledger is being asked for them.
    asking: bool,
}

impl Gone {
    /// Takes the gate's word in.
    pub fn observe(&mut self, applied: &Applied) {
        if applied.mark < self.mark {
            return;
        }
        if applied.mark.epoch != self.mark.epoch {
            self.complete = false;
        }
        self.mark = applied.mark;
        let before = self.any();
        self.lines.clear();
        match &applied.lines[..] {
            [] => self.lines.push(is_gone(&applied.counts)),
            lines => self.lines.extend(lines.iter().map(is_gone)),
        }
        if self.any() && !before {
            // What was sold since the ledger was asked last is not among the keys.
            self.complete = false;
        }
    }

    /// Whether the ledger must be asked for its keys; true once until [`Gone::learn`].
    pub fn wants_keys(&mut self) -> bool {
        let wants = self.any() && !self.complete && !self.asking && !self.is_full();
        self.asking |= wants;
        wants
    }

    /// The keys that the ledger has, asked for after the gate had said that something is sold out; `None` where it did not
    /// answer.
    pub fn learn(&mut self, keys: Option<Vec<HoldId>>) {
        self.asking = false;
        if let Some(keys) = keys {
            self.keys.extend(keys);
            self.complete = self.any();
        }
    }

    /// Whether this can be refused beside the gate's next answer, if it still says so then.
    pub fn refuses(&self, op: &Op) -> bool {
        let (Op::Hold { hold, units, .. } | Op::Wait { hold, units, .. }) = op else { return false };
        self.complete && !self.is_full() && self.has_none_of(units) && !self.keys.contains(hold)
    }

    /// Whether something that is asked for is sold out.
    pub fn has_none_of(&self, units: &Units) -> bool {
        let known = |(line, quantity): (u8, u32)| {
            usize::from(line) < self.lines.len() && (1..=MAX_STOCK).contains(&quantity)
        };
        units.iter().all(known) && units.iter().any(|(line, _)| self.lines[usize::from(line)])
    }

    /// This goes to the gate: from now on its key may have something there.
    pub fn forwarded(&mut self, op: &Op) {
        if let Op::Hold { hold, .. } | Op::Wait { hold, .. } = op
            && !self.is_full()
        {
            self.keys.insert(hold.clone());
        }
    }

    /// The gate has answered it. A key that was refused has nothing there.
    pub fn answered(&mut self, op: &Op, outcome: &Outcome) {
        let (Op::Hold { hold, .. } | Op::Wait { hold, .. }) = op else { return };
        match outcome {
            Outcome::Refused(refusal) if *refusal != Refusal::KeyReused => {
                // One key too many was not remembered: then none can be told from it any more.
                if !self.is_full() {
                    self.keys.remove(hold);
                }
            }
            _ => self.forwarded(op),
        }
    }

    fn any(&self) -> bool {
        self.lines.contains(&true)
    }

    fn is_full(&self) -> bool {
        self.keys.len() >= MAX_KEYS
    }
}

fn is_gone(counts: &Counts) -> bool {
    counts.available == 0 && counts.held == 0
}

#[cfg(test)]
mod tests {
    use haul_model::{BuyerId, UnixMillis};

    use super::*;

    fn hold(key: &str, units: &str) -> Op {
        let (hold, buyer): (HoldId, BuyerId) = (key.parse().unwrap(), "ann".parse().unwrap());
        Op::hold(hold, buyer, units.parse::<Units>().unwrap())
    }

    fn applied(sequence: u64, lines: &[(u32, u32)]) -> Applied {
        let lines: Vec<Counts> =
            lines.iter().map(|&(available, held)| Counts { available, held, sold: 5 }).collect();
        Applied {
            now: UnixMillis(0),
            mark: Mark { epoch: 1, sequence },
            outcomes: Vec::new(),
            released: Vec::new(),
            offered: Vec::new(),
            holds: Vec::new(),
            counts: lines[0],
            lines: if lines.len() > 1 { lines } else { Vec::new() },
            next_deadline: None,
        }
    }

    fn sold_out() -> Gone {
        let mut gone = Gone::default();
        gone.observe(&applied(3, &[(0, 0)]));
        assert!(gone.wants_keys() && !gone.wants_keys(), "asked for once");
        gone.learn(Some(vec!["sold".parse().unwrap()]));
        gone
    }

    #[test]
    fn what_is_sold_out_is_refused_but_never_to_a_key_that_may_have_something() {
        let mut gone = sold_out();
        assert!(gone.refuses(&hold("new", "1")));
        assert!(!gone.refuses(&hold("sold", "1")), "the ledger knows it");
        gone.forwarded(&hold("asked", "1"));
        assert!(!gone.refuses(&hold("asked", "1")), "whose answer was perhaps lost");
        gone.answered(&hold("asked", "1"), &Outcome::Refused(Refusal::KeyReused));
        assert!(!gone.refuses(&hold("asked", "1")), "there is such a hold");
        gone.answered(&hold("asked", "1"), &Outcome::Refused(Refusal::SoldOut));
        assert!(gone.refuses(&hold("asked", "1")));
        gone.answered(&hold("asked", "1"), &Outcome::Released);
        assert!(!gone.refuses(&hold("asked", "1")), "it is told that it is over");
    }

    #[test]
    fn units_that_are_held_may_come_back_and_are_not_sold_out() {
        let mut gone = sold_out();
        gone.observe(&applied(4, &[(0, 1)]));
        assert!(!gone.refuses(&hold("new", "1")));
        gone.observe(&applied(5, &[(0, 0)]));
        assert!(!gone.refuses(&hold("new", "1")), "what was sold meanwhile is not known");
        assert!(gone.wants_keys());
        gone.learn(None);
        assert!(!gone.refuses(&hold("new", "1")) && gone.wants_keys(), "the ledger is asked again");
        gone.learn(Some(Vec::new()));
        assert!(gone.refuses(&hold("new", "1")));
        gone.observe(&applied(4, &[(3, 0)]));
        assert!(gone.refuses(&hold("new", "1")), "an answer that was overtaken");
        gone.observe(&applied(6, &[(1, 0)]));
        assert!(!gone.refuses(&hold("new", "1")), "restocked");
    }

    #[test]
    fn of_several_lines_one_that_is_gone_is_enough_and_odd_requests_go_to_the_gate() {
        let mut gone = Gone::default();
        gone.observe(&applied(3, &[(0, 0), (2, 0)]));
        assert!(!gone.refuses(&hold("new", "0:1+1:1")), "before the ledger's keys are known");
        assert!(gone.wants_keys());
        gone.learn(Some(Vec::new()));
        assert!(gone.refuses(&hold("new", "0:1+1:1")));
        for other in ["1:1", "0", "0:1+7:1", "99999999"] {
            assert!(!gone.refuses(&hold("new", other)), "{other}");
        }
        let cancel = Op::Cancel { hold: "new".parse().unwrap(), buyer: "ann".parse().unwrap() };
        assert!(!gone.refuses(&cancel));
    }

    #[test]
    fn with_more_keys_than_can_be_remembered_everything_is_asked() {
        let mut gone = sold_out();
        gone.learn(Some((0..MAX_KEYS).map(|n| format!("key{n}").parse().unwrap()).collect()));
        assert!(!gone.refuses(&hold("new", "1")));
        gone.answered(&hold("key1", "1"), &Outcome::Refused(Refusal::SoldOut));
        assert!(!gone.refuses(&hold("new", "1")), "and stays so");
    }

    #[test]
    fn a_sale_that_was_rebuilt_is_looked_at_anew() {
        let mut gone = sold_out();
        gone.observe(&Applied { mark: Mark { epoch: 2, sequence: 1 }, ..applied(0, &[(0, 0)]) });
        assert!(!gone.refuses(&hold("new", "1")) && gone.wants_keys());
    }
}
