//! By how much a measure may differ for no reason.

use super::{Side, mean};
use crate::{
    catalog::{self, STATISTICS},
    report::Report,
};

/// One run against one: a change smaller than this share of the larger value is noise, for what runs differ by among
/// themselves is unknown. Times differ by more: ten runs of the same on a shared machine did by a third.
pub(super) const SHARE_OF_ONE: f64 = 0.20;
pub(super) const TIME_OF_ONE: f64 = 0.35;
/// And those by up to a factor of two that many readers measure of one thing that happened: a pin that thousands see is one
/// measurement, however many values it gives.
pub(super) const SHARED_TIME_OF_ONE: f64 = 0.60;
const SHARED: [&str; 6] = ["pin", "chat", "stock_event", "delay", "moq.delay", "channel.join"];
/// The same where it is known: smaller changes are not worth a word.
pub(super) const SHARE_OF_MANY: f64 = 0.10;
/// Times that differ by less, in milliseconds, are the same: of one run against one, and of several.
pub(super) const SMALL_MS_OF_ONE: f64 = 5.0;
pub(super) const SMALL_MS: f64 = 2.0;
/// Shares that differ by less, in per cent of the whole, are the same.
pub(super) const SMALL_PCT: f64 = 0.05;
/// Memory that differs by less, in MB, is the same.
const SMALL_MB: f64 = 4.0;
/// Memory of one that differs by less, in KB, is the same.
const SMALL_KB: f64 = 32.0;
/// A percentile with too few values beyond it, and a mean of too few, must be ten times as large.
const ANECDOTE: f64 = 0.9;
/// Fewer values than these make no mean: a single slow one decides it.
const FEW: u64 = 100;
/// Of a run's own seconds, and of counts, so many standard errors are noise.
const ERRORS: f64 = 3.0;
/// A line of seconds says something from so many on.
const SECONDS: usize = 5;
/// Student's t, two-sided, 99 %, for 1, 2, 3 … degrees of freedom; with more than there are here, the last.
const STUDENT: [f64; 20] = [
    63.66, 9.92, 5.84, 4.60, 4.03, 3.71, 3.50, 3.36, 3.25, 3.17, 3.11, 3.05, 3.01, 2.98, 2.95, 2.92, 2.90,
    2.88, 2.86, 2.85,
];

/// What is too little to matter, whatever the noise.
fn small(measure: &str) -> f64 {
    match catalog::unit(measure) {
        "ms" => SMALL_MS,
        "%" => SMALL_PCT,
        "MB" => SMALL_MB,
        "KB each" | "KB a join" => SMALL_KB,
        _ => 0.0,
    }
}

/// Among several runs: what their own spread makes likely, with 99 % confidence. What is an anecdote in each of them is no
/// more in all.
pub(super) fn between(measure: &str, before: Side, after: Side) -> f64 {
    let values = |side: Side| -> Vec<f64> { side.iter().map(|run| run.measures[measure]).collect() };
    let (old, new) = (values(before), values(after));
    let squares = |values: &[f64]| values.iter().map(|value| (value - mean(values)).powi(2)).sum::<f64>();
    let freedom = old.len() + new.len() - 2;
    let deviation = ((squares(&old) + squares(&new)) / freedom as f64).sqrt();
    let error = deviation * (1.0 / old.len() as f64 + 1.0 / new.len() as f64).sqrt();
    let largest = mean(&old).abs().max(mean(&new).abs());
    let noise = (student(freedom) * error).max(SHARE_OF_MANY * largest).max(small(measure));
    let anecdote = before.iter().chain(after).any(|run| is_anecdote(measure, run));
    if anecdote { noise.max(ANECDOTE * largest) } else { noise }
}

/// Whether a run has too few values for this statistic of theirs.
fn is_anecdote(measure: &str, report: &Report) -> bool {
    let Some((distribution, label)) = catalog::of_distribution(measure) else { return false };
    let count = report.distributions.get(distribution.name).map_or(0, |summary| summary.count);
    match label {
        "mean" => count < FEW,
        // The longest of many is still the longest of some.
        "max" => true,
        _ => range(report, distribution.name, label).is_none(),
    }
}

pub(super) fn student(freedom: usize) -> f64 {
    STUDENT[freedom.clamp(1, STUDENT.len()) - 1]
}

/// Between one run and one: what they know of themselves.
pub(super) fn within(measure: &str, before: &Report, after: &Report) -> f64 {
    let (old, new) = (before.measures[measure], after.measures[measure]);
    let largest = old.abs().max(new.abs());
    let errors = |one: Option<f64>, other: Option<f64>| match (one, other) {
        (Some(one), Some(other)) => ERRORS * one.hypot(other),
        _ => 0.0,
    };
    let Some((distribution, label)) = catalog::of_distribution(measure) else {
        let least = (SHARE_OF_ONE * largest).max(small(measure));
        return least.max(errors(of_number(measure, before), of_number(measure, after)));
    };
    let share = if SHARED.contains(&distribution.name) { SHARED_TIME_OF_ONE } else { TIME_OF_ONE };
    let least = (share * largest).max(SMALL_MS_OF_ONE);
    if is_anecdote(measure, before) || is_anecdote(measure, after) {
        return least.max(ANECDOTE * largest);
    }
    let by_rank = match (range(before, distribution.name, label), range(after, distribution.name, label)) {
        (Some(one), Some(other)) if new > old => (one[1] - old).hypot(new - other[0]),
        (Some(one), Some(other)) => (old - one[0]).hypot(other[1] - new),
        // A mean has no rank.
        _ => 0.0,
    };
    let seconds = |report| second_by_second(report, distribution.name, label);
    least.max(by_rank).max(errors(seconds(before), seconds(after)))
}

/// Between which values a percentile lies with 99 % confidence; none where there are too few.
fn range(report: &Report, distribution: &str, label: &str) -> Option<[f64; 2]> {
    let at = STATISTICS.iter().position(|known| *known == label)?;
    report.distributions.get(distribution)?.ranges.get(at).copied().flatten()
}

/// The standard error of a percentile's mean over a run's seconds.
fn second_by_second(report: &Report, distribution: &str, label: &str) -> Option<f64> {
    let line =
        distribution.strip_prefix("join.").map_or_else(|| distribution.replace('.', "_"), str::to_owned);
    let percentile = match label {
        "p50" | "mean" => "p50",
        "p90" | "p95" => "p95",
        _ => "p99",
    };
    let values = line_of(report, &format!("{line}_{percentile}"))?;
    Some(deviation(&values) / (values.len() as f64).sqrt())
}

/// The standard error of a number that is no time.
fn of_number(measure: &str, report: &Report) -> Option<f64> {
    let value = report.measures[measure];
    // Of what a number is made, and the line that tells it second by second.
    let (count, line) = match measure {
        "media.lost" | "media.loss_pct" => ("media.lost", "lost"),
        "media.freezes" | "media.freezes_per_viewer_hour" | "media.frozen_pct" => {
            ("media.freezes", "freezes")
        }
        "join.failed" | "join.failed_pct" => ("join.failed", ""),
        "moq.failed" | "moq.failed_pct" => ("moq.failed", ""),
        "server.cpu_pct" => ("", "server_cpu"),
        _ => ("", ""),
    };
    if count.is_empty() && !line.is_empty() {
        let values = line_of(report, line)?;
        return Some(deviation(&values) / (values.len() as f64).sqrt());
    }
    let whole = |value: f64| value.fract() == 0.0;
    let counted =
        report.measures.get(count).copied().or((count.is_empty() && whole(value)).then_some(value))?;
    // Chance alone, as of things that have nothing to do with each other; and, as they come in bunches, the seconds' own.
    let chance = counted.abs().max(1.0).sqrt();
    let bunches =
        line_of(report, line).map_or(0.0, |values| deviation(&values) * (values.len() as f64).sqrt());
    let scale = if counted == 0.0 { 0.0 } else { value / counted };
    Some(chance.max(bunches) * if count == measure || count.is_empty() { 1.0 } else { scale })
}

fn line_of(report: &Report, name: &str) -> Option<Vec<f64>> {
    let values: Vec<f64> = report.series.lines.get(name)?.iter().flatten().copied().collect();
    (values.len() >= SECONDS).then_some(values)
}

fn deviation(values: &[f64]) -> f64 {
    let middle = mean(values);
    let squares: f64 = values.iter().map(|value| (value - middle).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::tests::report;

    #[test]
    fn few_runs_must_differ_by_more_than_many() {
        let runs = |values: &[f64]| -> Vec<Report> {
            values
                .iter()
                .map(|value| report(&[("capacity.viewers", *value), ("hold.p50_ms", *value)]))
                .collect()
        };
        let error = |count: usize| {
            let values: Vec<f64> = (0..count).map(|at| if at % 2 == 0 { 90.0 } else { 110.0 }).collect();
            between("capacity.viewers", &runs(&values), &runs(&values))
        };
        assert!(error(2) > 100.0 && error(4) < 40.0 && error(10) < 20.0);
        let same = runs(&[100.0; 3]);
        assert_eq!(between("capacity.viewers", &same, &same), 10.0, "a share at least");
        assert_eq!(between("hold.p50_ms", &same, &same), 90.0, "nobody knows of how many holds");
        assert_eq!(student(500), student(20));
    }

    #[test]
    fn freezes_come_in_bunches() {
        let run = |each_second: [f64; 6]| {
            let mut report = report(&[("media.freezes", each_second.iter().sum())]);
            for (at, freezes) in each_second.into_iter().enumerate() {
                report.series.at(at as f64);
                report.series.put("freezes", Some(freezes));
            }
            report
        };
        let (even, bunch) = (run([10.0; 6]), run([0.0, 0.0, 60.0, 0.0, 0.0, 0.0]));
        let calm = within("media.freezes", &even, &even);
        assert!((20.0..40.0).contains(&calm), "what chance makes of 60: {calm}");
        assert!(within("media.freezes", &bunch, &bunch) > 200.0, "one hiccup of everybody's is one event");
    }
}
