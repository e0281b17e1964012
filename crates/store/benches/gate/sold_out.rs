//! What is answered in process when all is sold: the decision that a live's till makes for each request, without the way to
//! whoever asked.

use std::time::Instant;

use haul_commerce::{Applied, Counts, Mark, Op, gone::Gone};
use haul_model::UnixMillis;

use crate::goal;

/// Requests a round, as many as a till looks at for one call of the gate.
const REQUESTS: usize = 4_096;
const ROUNDS: usize = 500;
/// Keys that may have something: as many as a sale of so many units has sold.
const SOLD: usize = 10_000;

pub(crate) fn case() {
    let mut gone = Gone::default();
    let applied = Applied {
        now: UnixMillis(0),
        mark: Mark { epoch: 1, sequence: 1 },
        outcomes: Vec::new(),
        released: Vec::new(),
        offered: Vec::new(),
        holds: Vec::new(),
        counts: Counts { available: 0, held: 0, sold: SOLD as u32 },
        lines: Vec::new(),
        next_deadline: None,
    };
    gone.observe(&applied);
    assert!(gone.wants_keys());
    gone.learn(Some((0..SOLD).map(|n| format!("hold_sold_{n:020x}").parse().unwrap()).collect()));
    let requests: Vec<Op> = (0..REQUESTS)
        .map(|n| {
            Op::hold(format!("hold_{n:032x}").parse().unwrap(), format!("buyer-{n}").parse().unwrap(), 1)
        })
        .collect();
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        // Once before the gate's answer, and once after it.
        let waiting = requests.iter().filter(|op| gone.refuses(op)).count();
        gone.observe(&applied);
        let refused = requests.iter().filter(|op| gone.refuses(op)).count();
        assert_eq!((waiting, refused), (REQUESTS, REQUESTS));
    }
    let answers = (ROUNDS * REQUESTS) as f64 / begun.elapsed().as_secs_f64();
    goal("sold-out answers decided in process", answers, 2_000_000.0, "a second");
}
