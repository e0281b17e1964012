//! The comparison in words, on 80 columns.

use std::fmt::Write as _;

use super::{
    Change, Judged, Side, compare,
    noise::{
        SHARE_OF_MANY, SHARE_OF_ONE, SHARED_TIME_OF_ONE, SMALL_MS, SMALL_MS_OF_ONE, TIME_OF_ONE, student,
    },
};
use crate::{
    catalog,
    report::{Outcome, Report, number},
};

/// Measures that only one side has, told by name.
const MAX_MISSING: usize = 8;

/// The comparison; with `all`, also what is the same. Whether something is worse comes with it.
pub(crate) fn text(before: Side, after: Side, all: bool) -> (String, bool) {
    let mut text = String::new();
    let changes = compare(before, after);
    let those = |wanted: Judged| changes.iter().filter(move |change| change.judged == wanted);
    let (worse, better) = (those(Judged::Worse).count(), those(Judged::Better).count());
    let same = changes.len() - worse - better;
    let _ = writeln!(text, "{worse} worse, {better} better, {same} without a difference beyond noise");
    for (which, side) in [("before", before), ("after ", after)] {
        let _ = writeln!(text, "  {which}  {}", told(side));
    }
    let _ = writeln!(text, "  noise   {}", how(before.len(), after.len()));
    for care in cares(before, after) {
        let _ = writeln!(text, "careful: {care}");
    }
    for (title, wanted) in [("worse", Judged::Worse), ("better", Judged::Better)] {
        list(&mut text, title, those(wanted));
    }
    if all {
        list(&mut text, "no difference beyond noise", those(Judged::Same));
    } else if same > 0 {
        let _ = writeln!(text, "no difference beyond noise: {same} measures (--all lists them)");
    }
    (text, worse > 0)
}

fn list<'c>(text: &mut String, title: &str, changes: impl Iterator<Item = &'c Change>) {
    for (index, change) in changes.enumerate() {
        if index == 0 {
            let _ = writeln!(text, "{title}:");
        }
        let percent = if change.before == 0.0 {
            String::new()
        } else {
            format!("{:+.0} %", 100.0 * (change.after - change.before) / change.before.abs())
        };
        let (old, new, noise) = (number(change.before), number(change.after), number(change.noise));
        let _ = writeln!(text, "  {:<33} {old:>9} → {new:<9} {percent:>8}  (± {noise})", change.measure);
    }
}

fn told(side: Side) -> String {
    let first = &side[0];
    let runs = if side.len() == 1 { "one run".to_owned() } else { format!("{} runs", side.len()) };
    format!("{runs} of {} (seed {}, {:.0} s)", first.scenario, first.seed, first.duration_s)
}

/// How noise was judged.
fn how(before: usize, after: usize) -> String {
    let percent = |share: f64| share * 100.0;
    if before + after > 2 {
        let freedom = before + after - 2;
        return format!(
            "how runs of a side differ (t {:.1}, 99 %), and {:.0} %, {SMALL_MS:.0} ms at least{}",
            student(freedom),
            percent(SHARE_OF_MANY),
            if freedom < 3 { "; three runs a side tell more" } else { "" }
        );
    }
    format!(
        "what each run knows of itself; at least {:.0} %, of times {:.0} %\n          \
         ({:.0} % of what many see at once) and {SMALL_MS_OF_ONE:.0} ms\n          \
         (several runs a side know more: compare A1 A2 A3 -- B1 B2 B3)",
        percent(SHARE_OF_ONE),
        percent(TIME_OF_ONE),
        percent(SHARED_TIME_OF_ONE)
    )
}

/// What speaks against comparing these.
fn cares(before: Side, after: Side) -> Vec<String> {
    let mut cares = Vec::new();
    let runs: Vec<&Report> = before.iter().chain(after).collect();
    let first = runs[0];
    let mut differ = |what: &str, of: fn(&Report) -> String| {
        if let Some(other) = runs.iter().map(|run| of(run)).find(|value| *value != of(first)) {
            cares.push(format!("{what}: {} and {other}", of(first)));
        }
    };
    differ("not the same scenario", |run| run.scenario.clone());
    differ("not the same people", |run| run.who.to_string());
    differ("not the same length", |run| format!("{:.0} s", run.duration_s));
    differ("not the same seed", |run| run.seed.to_string());
    differ("not the same machine", |run| run.machine.clone());
    for (which, side) in [("before", before), ("after", after)] {
        for (index, run) in side.iter().enumerate() {
            if matches!(run.outcome(), Outcome::Invalid | Outcome::Wrong) {
                let why = run.invalid.join("; ");
                cares.push(format!("run {} {which} was invalid: {why}", index + 1));
            }
        }
    }
    for (which, one, other) in [("before", before, after), ("after", after, before)] {
        let counts =
            |name: &str| catalog::better(name) != catalog::Better::Neither && !name.starts_with("harness.");
        let has = |side: Side, name: &str| side.iter().all(|run| run.measures.contains_key(name));
        let mut names: Vec<&str> = one[0].measures.keys().map(String::as_str).collect();
        names.retain(|name| counts(name) && has(one, name) && !has(other, name));
        if !names.is_empty() {
            let more = names.len().saturating_sub(MAX_MISSING);
            let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
            let names = names.into_iter().take(MAX_MISSING).collect::<Vec<_>>().join(", ");
            cares.push(format!("measured only {which}: {names}{rest}"));
        }
    }
    cares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::report;

    #[test]
    fn different_runs_are_told_apart() {
        let (one, mut other) = (report(&[("hold.p50_ms", 3.0)]), report(&[("chat.p50_ms", 3.0)]));
        let said = text(std::slice::from_ref(&one), std::slice::from_ref(&one), false).0;
        assert!(!said.contains("careful"), "{said}");
        other.scenario = "herd".to_owned();
        other.who.viewers += 5;
        other.invalid.push("too slow".to_owned());
        let said = text(&[one], &[other], false).0;
        for care in [
            "not the same scenario: smoke and herd",
            "not the same people",
            "run 1 after was invalid: too slow",
            "measured only before: hold.p50_ms",
            "measured only after: chat.p50_ms",
        ] {
            assert!(said.contains(care), "{care}: {said}");
        }
    }

    #[test]
    fn the_first_line_has_the_verdict_and_each_line_fits() {
        let before = report(&[("hold.p99_ms", 100.0), ("chat.p99_ms", 900_000.0), ("pin.p50_ms", 5.0)]);
        let after = report(&[("hold.p99_ms", 3_000.0), ("chat.p99_ms", 20_000.0), ("pin.p50_ms", 5.5)]);
        let (said, worse) = text(&[before], &[after], true);
        assert!(worse && said.starts_with("1 worse, 1 better, 1 without"), "{said}");
        assert!(said.contains("what each run knows of itself; at least 20 %, of times 35 %\n"), "{said}");
        assert!(said.contains("no difference beyond noise:\n  pin.p50_ms"), "{said}");
        for line in said.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        let side = |value: f64| vec![report(&[("hold.p99_ms", value)]); 3];
        let (said, worse) = text(&side(5.0), &side(5.0), false);
        assert!(
            !worse && said.contains("3 runs of smoke") && said.contains("(t 4.6, 99 %), and 10 %"),
            "{said}"
        );
    }
}
