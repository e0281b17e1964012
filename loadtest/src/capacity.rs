//! A search for the number of viewers that can be served: they are added in steps until a level breaks. Pure: what was
//! counted goes in, second by second.
//!
//! A step is judged by itself, when it is over: every level that can be measured within a step must be measured in it and
//! hold, and those who were to be there must have been, with moving pictures, in its last quarter. The run is judged by
//! the last step that held: the one after it was made to break.

use std::{mem, time::Duration};

use crate::{
    level::{Level, Verdict},
    measure::{self, Measures},
    plan::Stairs,
    report::number,
    tally::Tally,
};

/// Of the viewers that a step is to have, how many must be served: of a hundred, one may be late once.
const LEAST_SERVED: f64 = 0.99;
/// From this part of a step on, all its viewers should be there: they come in its first half.
const SETTLED: f64 = 0.75;

/// A search that goes on.
pub(crate) struct Search {
    stairs: Stairs,
    /// Those that each step is judged by.
    levels: Vec<Level>,
    /// What a step can say anything about at all.
    known: Measures,
    step: Option<Step>,
    /// Of the last step that held, or, as long as none has, of the one that did not.
    judged: Option<Measures>,
    /// Most viewers for whom every level held.
    viewers: u64,
}

/// The step that is going on.
struct Step {
    index: u32,
    /// What had been counted when it began.
    before: Tally,
    /// The fewest viewers served since it was settled.
    served: Option<u64>,
    /// And at the last look, whenever that was.
    latest: u64,
}

/// What is known when a step is over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// In words.
    pub(crate) text: String,
    /// The search is at its end.
    pub(crate) is_over: bool,
}

impl Search {
    /// Along these stairs, judged by these levels.
    pub(crate) fn new(stairs: Stairs, levels: &[Level]) -> Self {
        let known = measure::of_tally(&Tally::full());
        let levels = levels.iter().filter(|level| known.contains_key(&level.measure)).cloned().collect();
        Self { stairs, levels, known, step: None, judged: None, viewers: 0 }
    }

    /// A look, about once a second: how long it goes on, all that was counted so far, and how many viewers have moving
    /// pictures now. Says what has become of a step that is over.
    pub(crate) fn look(&mut self, since: Duration, total: &Tally, served: u64) -> Option<Outcome> {
        let at = since.as_secs_f64() / self.stairs.every_s;
        let begin = || Step { index: at as u32, before: total.clone(), served: None, latest: served };
        let step = self.step.get_or_insert_with(begin);
        if at as u32 == step.index {
            step.latest = served;
            if at.fract() >= SETTLED {
                step.served = Some(step.served.map_or(served, |fewest| fewest.min(served)));
            }
            return None;
        }
        let over = mem::replace(step, begin());
        Some(self.judge(&over, total))
    }

    fn judge(&mut self, step: &Step, total: &Tally) -> Outcome {
        let (planned, served) =
            (u64::from(self.stairs.viewers(step.index)), step.served.unwrap_or(step.latest));
        let measures = measure::of_tally(&total.since(&step.before));
        let mut verdicts = self.levels.iter().map(|level| level.judge(&measures));
        let broken = if (served as f64) < planned as f64 * LEAST_SERVED {
            Some(format!("only {served} of them had moving pictures"))
        } else {
            verdicts.find(|verdict| !verdict.holds).map(|verdict| match verdict.measured {
                Some(measured) => format!("{} does not hold ({})", verdict.level, number(measured)),
                None => format!("{} does not hold (nothing was measured)", verdict.level),
            })
        };
        match broken {
            Some(why) => {
                self.judged.get_or_insert(measures);
                Outcome { text: format!("{planned} viewers: {why}"), is_over: true }
            }
            None => {
                self.judged = Some(measures);
                self.viewers = served;
                let is_over = planned >= u64::from(self.stairs.max);
                let more = if is_over { ", and more are not asked for: the limit may be higher" } else { "" };
                Outcome { text: format!("{served} viewers: every level holds{more}"), is_over }
            }
        }
    }

    /// The most viewers for whom every level held, each of them there and served.
    pub(crate) fn viewers(&self) -> u64 {
        self.viewers
    }

    /// The verdict of a level: by the last step that held if it can be judged by a step, else by the whole run.
    pub(crate) fn verdict(&self, level: &Level, whole: &Measures) -> Verdict {
        match &self.judged {
            Some(step) if self.known.contains_key(&level.measure) => level.judge(step),
            _ => level.judge(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::{Count, Time};

    /// A search by steps of ten seconds, looked at every second.
    struct Run {
        search: Search,
        total: Tally,
        second: u64,
    }

    const LEVELS: [&str; 4] =
        ["capacity.viewers >= 100", "join.ttff_p95_ms <= 800", "delay.p95_ms <= 300", "server.rss_mb <= 900"];

    fn levels() -> Vec<Level> {
        LEVELS.iter().map(|level| level.parse().unwrap()).collect()
    }

    fn run() -> Run {
        let stairs = Stairs { start: 100, step: 50, every_s: 10.0, max: 200, first: 0 };
        let mut run = Run { search: Search::new(stairs, &levels()), total: Tally::default(), second: 0 };
        assert_eq!(run.search.look(Duration::ZERO, &run.total, 0), None);
        run.total.count(Count::JoinAttempts, 1);
        run
    }

    impl Run {
        /// A step in which so many are served, and joins and delays take so long.
        fn step(&mut self, served: u64, ttff_ms: Option<u64>, delay_ms: Option<u64>) -> Outcome {
            for (time, ms) in [(Time::JoinFirstPicture, ttff_ms), (Time::Delay, delay_ms)] {
                if let Some(ms) = ms {
                    self.total.record(time, Duration::from_millis(ms));
                }
            }
            loop {
                self.second += 1;
                if let Some(outcome) = self.search.look(Duration::from_secs(self.second), &self.total, served)
                {
                    return outcome;
                }
            }
        }

        fn verdicts(&self) -> Vec<bool> {
            let whole = [("capacity.viewers".to_owned(), self.search.viewers() as f64)]
                .into_iter()
                .chain(measure::of_tally(&self.total))
                .collect();
            levels().iter().map(|level| self.search.verdict(level, &whole).holds).collect()
        }
    }

    #[test]
    fn the_number_is_who_was_served_in_the_last_step_that_held() {
        let mut run = run();
        assert_eq!(run.step(100, Some(100), Some(20)).text, "100 viewers: every level holds");
        assert_eq!(run.step(149, Some(100), Some(20)).text, "149 viewers: every level holds");
        let last = run.step(200, Some(900), Some(20));
        assert!(
            last.is_over && last.text == "200 viewers: join.ttff_p95_ms <= 800 does not hold (900)",
            "{last:?}"
        );
        assert_eq!(run.search.viewers(), 149);
    }

    #[test]
    fn the_run_is_judged_by_that_step_and_not_by_the_one_that_was_made_to_break() {
        let mut run = run();
        run.step(100, Some(100), Some(20));
        run.step(150, Some(900), Some(400));
        // What no step can say is not measured in this run.
        assert_eq!(run.verdicts(), [true, true, true, false]);
    }

    #[test]
    fn a_step_in_which_nothing_moves_does_not_hold() {
        let mut run = run();
        run.step(100, Some(100), Some(20));
        let frozen = run.step(150, Some(100), None);
        assert!(
            frozen.is_over && frozen.text.contains("delay.p95_ms <= 300 does not hold (nothing"),
            "{frozen:?}"
        );
        assert_eq!(run.search.viewers(), 100);
    }

    #[test]
    fn who_was_planned_and_is_not_there_does_not_count() {
        let mut run = run();
        run.step(100, Some(100), Some(20));
        let missing = run.step(120, Some(100), Some(20));
        assert!(
            missing.is_over && missing.text == "150 viewers: only 120 of them had moving pictures",
            "{missing:?}"
        );
        assert_eq!((run.search.viewers(), run.verdicts()[0]), (100, true));
    }

    #[test]
    fn where_no_step_held_the_first_is_what_the_run_is_judged_by() {
        let mut run = run();
        assert!(run.step(100, Some(900), Some(20)).is_over);
        assert_eq!((run.search.viewers(), run.verdicts()), (0, vec![false, false, true, false]));
    }

    #[test]
    fn the_search_ends_at_its_maximum() {
        let mut run = run();
        assert!(!run.step(100, Some(1), Some(1)).is_over && !run.step(150, Some(1), Some(1)).is_over);
        let last = run.step(200, Some(1), Some(1));
        assert!(last.is_over && last.text.contains("the limit may be higher"), "{last:?}");
        assert_eq!(run.search.viewers(), 200);
    }
}
