//! Two runs side by side: what got better and what got worse, beyond what noise makes of the same.
//!
//! Noise is not known from one number. So a measure has changed only if it differs by more than all of these: a share of
//! itself, an amount too small to matter, and, for percentiles, what so few values can tell: a p99 of fifty joins is one
//! join. Where a run's own seconds are known, their spread is taken too.

use crate::{
    level::{self, Better, DISTRIBUTIONS, STATISTICS},
    report::{Report, number},
};

/// A change smaller than this share of the larger value is noise.
const SHARE: f64 = 0.10;
/// Times that differ by less, in milliseconds, are the same.
const SMALL_MS: f64 = 2.0;
/// A percentile needs so many values beyond it, or it is an anecdote.
const BEYOND: f64 = 10.0;
/// A mean of seconds differs if it does by so many standard errors.
const ERRORS: f64 = 3.0;

/// A measure in both runs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) measure: String,
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// True: better. False: worse.
    pub(crate) better: bool,
}

/// What has changed beyond noise, the largest relative change first; and how many measures are the same.
pub(crate) fn compare(before: &Report, after: &Report) -> (Vec<Change>, usize) {
    let (mut changes, mut same) = (Vec::new(), 0);
    for (measure, old) in &before.measures {
        let (Some(new), wanted) = (after.measures.get(measure), level::better(measure)) else { continue };
        if wanted == Better::Neither || measure.starts_with("harness.") {
            continue;
        }
        if (new - old).abs() <= noise(measure, before, after) {
            same += 1;
            continue;
        }
        let better = (new < old) == (wanted == Better::Less);
        changes.push(Change { measure: measure.clone(), before: *old, after: *new, better });
    }
    let size =
        |change: &Change| (change.after - change.before).abs() / change.before.abs().max(change.after.abs());
    changes.sort_by(|one, other| size(other).total_cmp(&size(one)));
    (changes, same)
}

/// By how much a measure may differ for no reason.
fn noise(measure: &str, before: &Report, after: &Report) -> f64 {
    let values = [before.measures[measure], after.measures[measure]];
    let largest = values[0].abs().max(values[1].abs());
    let mut noise = SHARE * largest;
    for distribution in DISTRIBUTIONS {
        for (label, beyond) in STATISTICS.iter().zip([0.5, 0.1, 0.05, 0.01, 0.001, 0.0, 0.5]) {
            if level::statistic(distribution.name, label) != measure {
                continue;
            }
            noise = noise.max(SMALL_MS);
            let count =
                |report: &Report| report.distributions.get(distribution.name).map_or(0, |s| s.count) as f64;
            if count(before).min(count(after)) * beyond < BEYOND {
                // Too few values for this percentile: it must differ by itself and half again.
                noise = noise.max(0.5 * largest);
            }
            if let (Some(one), Some(other)) =
                (spread(before, distribution.name), spread(after, distribution.name))
            {
                noise = noise.max(ERRORS * one.hypot(other));
            }
            return noise;
        }
    }
    match measure {
        // Counts of rare things: what chance makes of them (a Poisson distribution's deviation).
        "sale.oversold" | "sale.mismatches" | "sale.double_holds" | "sale.unanswered"
        | "sale.unconfirmed" => 0.0,
        _ if measure.ends_with("_pct") => noise.max(0.05),
        _ if values.iter().all(|value| value.fract() == 0.0) => noise.max(2.0 * largest.sqrt()),
        _ => noise,
    }
}

/// The standard error of the mean of a distribution's medians, second by second.
fn spread(report: &Report, name: &str) -> Option<f64> {
    let line = report.series.lines.get(&format!("{}_p50", name.strip_prefix("join.").unwrap_or(name)))?;
    let values: Vec<f64> = line.iter().flatten().copied().collect();
    if values.len() < 5 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
    Some((variance / values.len() as f64).sqrt())
}

/// The comparison in words.
pub(crate) fn text(before: &Report, after: &Report) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    if (&before.scenario, before.seed, before.duration_s.round())
        != (&after.scenario, after.seed, after.duration_s.round())
    {
        let told = |report: &Report| {
            format!("{} (seed {}, {:.0} s)", report.scenario, report.seed, report.duration_s)
        };
        let _ = writeln!(text, "careful: these are different runs: {} and {}", told(before), told(after));
    }
    if before.machine != after.machine {
        let _ = writeln!(text, "careful: on different machines: {} and {}", before.machine, after.machine);
    }
    for (which, report) in [("before", before), ("after", after)] {
        for why in &report.invalid {
            let _ = writeln!(text, "careful: the run {which} was invalid: {why}");
        }
    }
    let (changes, same) = compare(before, after);
    for (title, wanted) in [("worse", false), ("better", true)] {
        let those: Vec<_> = changes.iter().filter(|change| change.better == wanted).collect();
        if those.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{title}:");
        for change in those {
            let percent = if change.before == 0.0 {
                String::new()
            } else {
                format!("{:+.0} %", 100.0 * (change.after - change.before) / change.before.abs())
            };
            let (old, new) = (number(change.before), number(change.after));
            let _ = writeln!(text, "  {:<36} {old:>10} → {new:<10} {percent}", change.measure);
        }
    }
    let _ = writeln!(text, "{same} measures are the same within noise");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::histogram::Summary;

    fn report(values: &[(&str, f64)], joins: u64) -> Report {
        let mut report = crate::report::tests::example();
        report.measures = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        report.distributions.clear();
        report.distributions.insert("join.ttff".to_owned(), Summary { count: joins, ..Summary::default() });
        report.series = Default::default();
        report
    }

    fn changes(before: &[(&str, f64)], after: &[(&str, f64)], joins: u64) -> Vec<(String, bool)> {
        let (changes, _) = compare(&report(before, joins), &report(after, joins));
        changes.into_iter().map(|change| (change.measure, change.better)).collect()
    }

    #[test]
    fn what_differs_more_than_noise_is_better_or_worse() {
        let got = changes(
            &[("join.ttff_p95_ms", 500.0), ("media.loss_pct", 0.0), ("capacity.viewers", 1_000.0)],
            &[("join.ttff_p95_ms", 300.0), ("media.loss_pct", 2.0), ("capacity.viewers", 700.0)],
            10_000,
        );
        let truth = [("media.loss_pct", false), ("join.ttff_p95_ms", true), ("capacity.viewers", false)];
        assert_eq!(got, truth.map(|(name, better)| (name.to_owned(), better)));
    }

    #[test]
    fn noise_is_not_told() {
        for (measure, before, after, joins) in [
            ("join.ttff_p95_ms", 500.0, 530.0, 10_000),
            ("join.ttff_p95_ms", 3.0, 4.5, 10_000),
            ("join.ttff_p99_ms", 500.0, 700.0, 100),
            ("media.loss_pct", 0.01, 0.04, 10_000),
            ("media.freezes", 3.0, 5.0, 10_000),
            ("join.attempts", 100.0, 900.0, 10_000),
        ] {
            assert_eq!(changes(&[(measure, before)], &[(measure, after)], joins), [], "{measure}");
        }
        let one = changes(&[("sale.oversold", 0.0)], &[("sale.oversold", 1.0)], 1);
        assert_eq!(one, [("sale.oversold".to_owned(), false)], "one unit too many is never noise");
        let few = changes(&[("join.ttff_p99_ms", 500.0)], &[("join.ttff_p99_ms", 1_500.0)], 100);
        assert_eq!(few.len(), 1, "three times as long is no anecdote");
    }

    #[test]
    fn different_runs_are_told_apart() {
        let (one, mut other) = (report(&[], 1), report(&[], 1));
        assert!(!text(&one, &other).contains("careful"));
        other.scenario = "herd".to_owned();
        other.invalid.push("too slow".to_owned());
        let said = text(&one, &other);
        assert!(said.contains("different runs") && said.contains("the run after was invalid"), "{said}");
    }
}
