//! Was the harness itself the limit? Judged second by second and thread by thread: one that is at its end while others idle,
//! or for five seconds of ten minutes, makes of those seconds a statement about itself. Pure: what was seen goes in.

use std::{collections::BTreeMap, time::Duration};

use crate::machine::Share;

/// A thread that uses more of a core than this is at its end, if it does so for that long.
pub(crate) const BUSY_PCT: f64 = 90.0;
/// A thread that waits for a core for more than this, per cent of the time, is kept from its work by others, if it is for
/// that long: what was slow may have been the harness.
pub(crate) const WAITING_PCT: f64 = 40.0;
/// Timers that come later than this make times that are measured wrong by as much, if they do for that long; later than
/// twice that and half again, at once.
pub(crate) const TIMER_MS: f64 = 100.0;
pub(crate) const TIMER_ONCE_MS: f64 = 250.0;
/// What is done later than this after it was planned is another load than the one that was asked for.
pub(crate) const LATE_MS: f64 = 500.0;
/// For how long what may happen once must not.
pub(crate) const FOR_S: f64 = 3.0;
/// The share of datagrams that the harness' sockets may have no room for: over the run, and within a second.
const DROPPED: f64 = 0.000_1;
const DROPPED_AT_ONCE: f64 = 0.001;
/// Fewer dropped datagrams than these within a second are no share of anything.
const DROPPED_LEAST: u64 = 10;
/// Times told for each reason; of more, how many.
const MAX_TOLD: usize = 4;

/// What was seen of the harness over a second or so.
#[derive(Debug, Clone, Default)]
pub(crate) struct Second {
    pub(crate) from_s: f64,
    pub(crate) to_s: f64,
    pub(crate) threads: Vec<Share>,
    /// The most by which a timer was late.
    pub(crate) timer: Duration,
    /// The most by which something planned was.
    pub(crate) late: Duration,
    pub(crate) packets: u64,
    pub(crate) drops: u64,
}

/// What is looked for, in the order in which it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Busy,
    Waiting,
    Timers,
    Late,
    Drops,
}

/// A time over which something was above its limit.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spell {
    from_s: f64,
    to_s: f64,
    most: f64,
}

impl Spell {
    fn and(&mut self, other: Self) {
        self.to_s = other.to_s;
        self.most = self.most.max(other.most);
    }

    fn lasts(&self) -> f64 {
        // Looks are a second apart, and a little less now and then.
        (self.to_s - self.from_s) * 1.05
    }
}

/// All that was seen.
#[derive(Debug, Default)]
pub(crate) struct Bottleneck {
    /// Above the limit in the last second: by reason and thread (0: all of them).
    going_on: BTreeMap<(Reason, u32), (String, Spell)>,
    /// Long enough to count: by reason and name.
    spells: BTreeMap<(Reason, String), Vec<Spell>>,
    packets: u64,
    drops: u64,
    busiest: f64,
    /// The most that a thread has waited in each of three seconds.
    waiting_most: f64,
    last_waits: [BTreeMap<u32, f64>; 2],
    timer: Duration,
    late: Duration,
}

impl Bottleneck {
    /// A second more.
    pub(crate) fn look(&mut self, second: &Second) {
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        let mut over = Vec::new();
        for thread in &second.threads {
            self.busiest = self.busiest.max(thread.busy_pct);
            if thread.busy_pct > BUSY_PCT {
                over.push((Reason::Busy, thread.id, thread.name.clone(), thread.busy_pct));
            }
            if thread.waiting_pct > WAITING_PCT {
                over.push((Reason::Waiting, thread.id, thread.name.clone(), thread.waiting_pct));
            }
        }
        self.remember_waits(second);
        (self.timer, self.late) = (self.timer.max(second.timer), self.late.max(second.late));
        (self.packets, self.drops) = (self.packets + second.packets, self.drops + second.drops);
        if ms(second.timer) > TIMER_MS {
            over.push((Reason::Timers, 0, String::new(), ms(second.timer)));
        }
        if ms(second.late) > LATE_MS {
            over.push((Reason::Late, 0, String::new(), ms(second.late)));
        }
        let share = second.drops as f64 / (second.packets + second.drops).max(1) as f64;
        if second.drops >= DROPPED_LEAST && share > DROPPED_AT_ONCE {
            over.push((Reason::Drops, 0, String::new(), second.drops as f64));
        }
        let mut before = std::mem::take(&mut self.going_on);
        for (reason, id, name, most) in over {
            // The kernel tells of a wait when it is over: one of more than all the time began before.
            let before_s = (most / 100.0 - 1.0).max(0.0) * (second.to_s - second.from_s);
            let now = match reason {
                Reason::Waiting => Spell {
                    from_s: (second.from_s - before_s).max(0.0),
                    to_s: second.to_s,
                    most: most.min(100.0),
                },
                _ => Spell { from_s: second.from_s, to_s: second.to_s, most },
            };
            let spell = match before.remove(&(reason, id)) {
                Some((_, mut spell)) => {
                    spell.and(now);
                    spell
                }
                None => now,
            };
            self.going_on.insert((reason, id), (name, spell));
        }
        before
            .into_iter()
            .for_each(|((reason, _), (name, spell))| note(&mut self.spells, reason, name, spell));
    }

    /// The least of three waits in a row, of each thread: what it has waited throughout.
    fn remember_waits(&mut self, second: &Second) {
        let waits: BTreeMap<u32, f64> =
            second.threads.iter().map(|thread| (thread.id, thread.waiting_pct)).collect();
        for (id, wait) in &waits {
            let [one, two] = &self.last_waits;
            if let (Some(one), Some(two)) = (one.get(id), two.get(id)) {
                self.waiting_most = self.waiting_most.max(wait.min(*one).min(*two));
            }
        }
        let [_, newer] = std::mem::take(&mut self.last_waits);
        self.last_waits = [newer, waits];
    }

    /// The busiest thread in its busiest second, per cent of a core.
    pub(crate) fn busiest_pct(&self) -> f64 {
        self.busiest
    }

    /// The longest that a thread has waited for a core in each of three seconds in a row, per cent of the time.
    pub(crate) fn waiting_pct(&self) -> f64 {
        self.waiting_most
    }

    /// The most by which a timer, or something planned, was late.
    pub(crate) fn late(&self) -> Duration {
        self.timer.max(self.late)
    }

    /// Why the run says more about the harness than about the server, and when it does.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut spells = self.spells.clone();
        for ((reason, _), (name, spell)) in &self.going_on {
            note(&mut spells, *reason, name.clone(), *spell);
        }
        let told = spells.iter().map(|((reason, name), spells)| tell(*reason, name, spells));
        let mut reasons: Vec<_> = told.collect();
        if self.drops as f64 > self.packets as f64 * DROPPED {
            let all = self.packets + self.drops;
            reasons.push(format!("its sockets had no room for {} datagrams of {all}", self.drops));
        }
        reasons
    }
}

/// A spell that is over counts if it was long enough, or bad enough at once.
fn note(spells: &mut BTreeMap<(Reason, String), Vec<Spell>>, reason: Reason, name: String, spell: Spell) {
    let counts = match reason {
        Reason::Busy | Reason::Waiting => spell.lasts() >= FOR_S,
        Reason::Timers => spell.lasts() >= FOR_S || spell.most > TIMER_ONCE_MS,
        Reason::Late | Reason::Drops => true,
    };
    if counts {
        spells.entry((reason, name)).or_default().push(spell);
    }
}

fn tell(reason: Reason, name: &str, spells: &[Spell]) -> String {
    let most = spells.iter().map(|spell| spell.most).fold(0.0, f64::max);
    let mut spells: Vec<_> = spells.to_vec();
    spells.sort_by(|one, other| one.from_s.total_cmp(&other.from_s));
    // Threads of one name are one: where their times meet, they are told as one.
    spells.dedup_by(|next, one| {
        let meet = next.from_s <= one.to_s;
        if meet {
            one.to_s = one.to_s.max(next.to_s);
        }
        meet
    });
    let mut when: Vec<_> = (spells.iter().take(MAX_TOLD))
        .map(|spell| format!("{:.0} to {:.0} s", spell.from_s.max(0.0), spell.to_s))
        .collect();
    if spells.len() > MAX_TOLD {
        when.push(format!("and {} more", spells.len() - MAX_TOLD));
    }
    let what = match reason {
        Reason::Busy => format!("its thread {name} used up to {most:.0} % of a core"),
        Reason::Waiting => {
            format!(
                "its thread {name} waited for a core, which something else had, up to {most:.0} % of the time"
            )
        }
        Reason::Timers => format!("its timers came up to {most:.0} ms late"),
        Reason::Late => format!("it was up to {:.1} s late with what was planned", most / 1_000.0),
        Reason::Drops => format!("its sockets had no room for up to {most:.0} datagrams a second"),
    };
    format!("{what} ({})", when.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(id: u32, busy_pct: f64, waiting_pct: f64) -> Share {
        Share { id, name: format!("viewers-{id}"), busy_pct, waiting_pct }
    }

    /// Seconds from 0 on, each as it is said.
    fn run(seconds: impl IntoIterator<Item = Second>) -> Vec<String> {
        let mut bottleneck = Bottleneck::default();
        for (at, second) in seconds.into_iter().enumerate() {
            bottleneck.look(&Second { from_s: at as f64, to_s: at as f64 + 1.0, ..second });
        }
        bottleneck.reasons()
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn five_seconds_of_ten_minutes_are_enough_and_are_named() {
        let seconds = (0..600).map(|at| {
            let busy = if (100..105).contains(&at) { 98.0 } else { 5.0 };
            Second { threads: vec![thread(0, 2.0, 0.0), thread(1, busy, 0.0)], ..Second::default() }
        });
        assert_eq!(run(seconds), ["its thread viewers-1 used up to 98 % of a core (100 to 105 s)"]);
    }

    #[test]
    fn one_thread_that_is_at_its_end_is_not_hidden_by_others_that_take_turns() {
        let turns = (0..60).map(|at| Second {
            threads: (0..4).map(|id| thread(id, if at % 4 == id { 99.0 } else { 1.0 }, 0.0)).collect(),
            ..Second::default()
        });
        assert_eq!(run(turns), [] as [&str; 0], "each was busy for a second at a time");
        let waits = (0..6).map(|at| Second {
            threads: vec![thread(0, 1.0, 0.0), thread(7, 50.0, if at < 3 { 45.0 } else { 10.0 })],
            ..Second::default()
        });
        let why = run(waits);
        assert!(why.len() == 1 && why[0].contains("viewers-7 waited for a core"), "{why:?}");
        assert!(why[0].ends_with("(0 to 3 s)"), "{why:?}");
    }

    #[test]
    fn what_goes_on_at_the_end_is_told_and_much_of_it_is_counted() {
        let seconds = (0..34).map(|at| Second {
            threads: vec![thread(0, if at % 5 == 0 { 0.0 } else { 95.0 }, 0.0)],
            ..Second::default()
        });
        let why = run(seconds).join("");
        assert!(why.contains("(1 to 5 s, 6 to 10 s, 11 to 15 s, 16 to 20 s, and 3 more)"), "{why}");
    }

    #[test]
    fn a_wait_that_is_told_when_it_is_over_began_before_and_threads_of_one_name_are_one() {
        let named = |id, waiting_pct| Share { id, name: "worker".to_owned(), busy_pct: 1.0, waiting_pct };
        let waits = (0..20).map(|at| Second {
            threads: vec![
                named(1, if at == 9 { 410.0 } else { 0.0 }),
                named(2, if at < 7 { 60.0 } else { 0.0 }),
            ],
            ..Second::default()
        });
        let why = run(waits);
        assert_eq!(why.len(), 1, "{why:?}");
        assert!(why[0].contains("up to 100 % of the time (0 to 10 s)"), "{why:?}");
    }

    #[test]
    fn timers_and_plans_that_came_late_are_told_with_when() {
        let timers = |late: &'static [u64]| {
            run(late.iter().map(|late| Second { timer: ms(*late), ..Second::default() })).join("; ")
        };
        assert_eq!(timers(&[100, 100, 100, 250, 0]), "", "at their limits");
        assert_eq!(timers(&[0, 120, 150, 110, 0]), "its timers came up to 150 ms late (1 to 4 s)");
        assert_eq!(timers(&[0, 251, 0]), "its timers came up to 251 ms late (1 to 2 s)");
        assert_eq!(run([Second { late: ms(500), ..Second::default() }]), [] as [&str; 0]);
        let late = run([Second::default(), Second { late: ms(1_300), ..Second::default() }]);
        assert_eq!(late, ["it was up to 1.3 s late with what was planned (1 to 2 s)"]);
    }

    #[test]
    fn datagrams_that_were_dropped_count_by_second_and_in_all() {
        let second = |packets, drops| Second { packets, drops, ..Second::default() };
        assert_eq!(run([second(1_000_000, 100)]), [] as [&str; 0], "at the limit");
        assert_eq!(run([second(1_000_000, 101)]), ["its sockets had no room for 101 datagrams of 1000101"]);
        let burst = run([second(10_000_000, 0), second(5_000, 20)]);
        assert_eq!(burst, ["its sockets had no room for up to 20 datagrams a second (1 to 2 s)"]);
    }

    #[test]
    fn a_wait_counts_for_what_it_was_throughout() {
        let mut bottleneck = Bottleneck::default();
        for wait in [10.0, 90.0, 30.0, 50.0, 20.0] {
            bottleneck.look(&Second { threads: vec![thread(3, 1.0, wait)], ..Second::default() });
        }
        assert_eq!(bottleneck.waiting_pct(), 30.0);
    }
}
