//! Runs before and after, side by side: what got better and what got worse, beyond what noise makes of the same.
//!
//! With several runs on a side, noise is how much runs of one side differ among themselves (Student's t). One run against one
//! knows nothing of that, only of itself: how far its percentiles may be off by chance (the binomial interval of their ranks,
//! see [`Histogram::interval_us`](crate::histogram::Histogram)), how its seconds differ, and what chance makes of counts. So a
//! larger share of the value itself counts as noise as well. What tells right from wrong knows no noise.

mod noise;
mod words;

use crate::{
    catalog::{self, Better},
    report::Report,
};

pub(crate) use self::words::text;

/// The runs of a side; there is one at least.
pub(crate) type Side<'r> = &'r [Report];

/// What became of a measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judged {
    Better,
    Worse,
    /// It differs by no more than noise does.
    Same,
}

/// A measure on both sides.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) measure: String,
    pub(crate) before: f64,
    pub(crate) after: f64,
    /// By how much it may differ for no reason.
    pub(crate) noise: f64,
    pub(crate) judged: Judged,
}

impl Change {
    /// How large it is, as a share of the larger value.
    fn size(&self) -> f64 {
        (self.after - self.before).abs() / self.before.abs().max(self.after.abs()).max(f64::MIN_POSITIVE)
    }
}

/// All measures that are better in one direction and known on both sides, the largest relative change first.
pub(crate) fn compare(before: Side, after: Side) -> Vec<Change> {
    let names = before[0].measures.keys();
    let mut changes: Vec<_> = names.filter_map(|measure| change(measure, before, after)).collect();
    changes.sort_by(|one, other| other.size().total_cmp(&one.size()));
    changes
}

fn change(measure: &str, before: Side, after: Side) -> Option<Change> {
    let wanted = catalog::better(measure);
    if wanted == Better::Neither || measure.starts_with("harness.") {
        return None;
    }
    let (old, new) = (values(measure, before)?, values(measure, after)?);
    let (was, is, noise) = if catalog::is_of_correctness(measure) || measure == "sale.unanswered" {
        // One unit too many in one of ten runs is one unit too many.
        (most(&old), most(&new), 0.0)
    } else if old.len() + new.len() > 2 {
        (mean(&old), mean(&new), noise::between(measure, before, after))
    } else {
        (old[0], new[0], noise::within(measure, &before[0], &after[0]))
    };
    let judged = if (is - was).abs() <= noise {
        Judged::Same
    } else if (is < was) == (wanted == Better::Less) {
        Judged::Better
    } else {
        Judged::Worse
    };
    Some(Change { measure: measure.to_owned(), before: was, after: is, noise, judged })
}

/// A measure's values in all runs of a side; none if one of them has none.
fn values(measure: &str, side: Side) -> Option<Vec<f64>> {
    side.iter().map(|report| report.measures.get(measure).copied()).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn most(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::MIN, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        histogram::{Histogram, Summary},
        random::Random,
    };

    pub(super) fn report(values: &[(&str, f64)]) -> Report {
        let mut report = crate::report::tests::example();
        report.measures = values.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        report.distributions.clear();
        report.series = Default::default();
        report
    }

    /// A run in which so many joins took about so long, a few of them much longer, as joins do.
    fn joins(count: u32, middle_ms: f64, seed: u64) -> Report {
        let mut random = Random::new(seed, 0);
        let mut histogram = Histogram::default();
        for _ in 0..count {
            let unit = random.between(0.001, 1.0);
            histogram.record_us((middle_ms * 1_000.0 * (0.7 - 0.45 * unit.ln())) as u64);
        }
        let mut report = report(&[]);
        report.distributions.insert("join.ttff".to_owned(), histogram.summary());
        crate::measure::statistics(&mut report.measures, "join.ttff", &histogram);
        report
    }

    fn judged(before: Side, after: Side, measure: &str) -> Judged {
        let changes = compare(before, after);
        changes.into_iter().find(|change| change.measure == measure).unwrap().judged
    }

    /// One value against one.
    fn one(measure: &str, before: f64, after: f64) -> Judged {
        judged(&[report(&[(measure, before)])], &[report(&[(measure, after)])], measure)
    }

    #[test]
    fn what_differs_more_than_noise_is_better_or_worse() {
        assert_eq!(one("media.loss_pct", 0.0, 2.0), Judged::Worse);
        assert_eq!(one("capacity.viewers", 1_000.0, 700.0), Judged::Worse);
        assert_eq!(one("capacity.viewers", 700.0, 1_000.0), Judged::Better);
        assert_eq!(one("sale.oversold", 0.0, 1.0), Judged::Worse, "one unit too many is never noise");
        assert_eq!(one("sale.mismatches", 1.0, 0.0), Judged::Better);
        for (measure, before, after) in
            [("media.loss_pct", 0.01, 0.04), ("media.freezes", 3.0, 5.0), ("server.cpu_pct", 40.0, 47.0)]
        {
            assert_eq!(one(measure, before, after), Judged::Same, "{measure}");
        }
        let reports = (report(&[("join.attempts", 100.0)]), report(&[("join.attempts", 900.0)]));
        assert_eq!(compare(&[reports.0], &[reports.1]), [], "neither is better");
    }

    #[test]
    fn percentiles_of_one_run_know_how_far_they_may_be_off() {
        let (many, few) = (10_000, 60);
        for (count, before, after, measure, truth) in [
            (many, 300.0, 370.0, "join.ttff_p95_ms", Judged::Same),
            (many, 500.0, 300.0, "join.ttff_p95_ms", Judged::Better),
            (many, 200.0, 340.0, "join.ttff_p99_ms", Judged::Worse),
            (many, 200.0, 340.0, "join.ttff_mean_ms", Judged::Worse),
            // The p99 of sixty joins is one join.
            (few, 200.0, 800.0, "join.ttff_p99_ms", Judged::Same),
            (few, 200.0, 800.0, "join.ttff_mean_ms", Judged::Same),
            (few, 200.0, 800.0, "join.ttff_p50_ms", Judged::Worse),
            (few, 20.0, 2_000.0, "join.ttff_p99_ms", Judged::Worse),
            (many, 1.0, 4.0, "join.ttff_p50_ms", Judged::Same),
        ] {
            let (one, other) = ([joins(count, before, 1)], [joins(count, after, 2)]);
            assert_eq!(judged(&one, &other, measure), truth, "{count} joins, {before} to {after}, {measure}");
        }
    }

    #[test]
    fn runs_of_the_same_make_no_difference_whatever_their_number() {
        // Runs differ more among themselves than each knows of itself: the machine was busier during some.
        let runs = |first: u64, count: u64, middle_ms: f64| -> Vec<Report> {
            let run = |seed| {
                let slower = Random::new(seed, 7).between(0.8, 1.25);
                joins(2_000, middle_ms * slower, seed)
            };
            (first..first + count).map(run).collect()
        };
        let mut told = 0;
        for case in 0..300 {
            let (before, after) = (runs(case * 10, 3, 300.0), runs(case * 10 + 5, 3, 300.0));
            told += u32::from(judged(&before, &after, "join.ttff_p95_ms") != Judged::Same);
        }
        assert!(told <= 6, "one in a hundred is noise that is told as a change, and not {told} of 300");
        let doubled = compare(&runs(900, 3, 300.0), &runs(950, 3, 700.0));
        assert!(
            doubled
                .iter()
                .any(|change| change.measure == "join.ttff_p50_ms" && change.judged == Judged::Worse)
        );
    }

    #[test]
    fn between_runs_their_own_spread_decides() {
        let run = |value: f64| {
            let mut report = report(&[("hold.p99_ms", value)]);
            let summary = Summary { count: 10_000, ranges: [Some([value, value]); 5], ..Summary::default() };
            report.distributions.insert("hold".to_owned(), summary);
            report
        };
        let side = |values: &[f64]| -> Vec<Report> { values.iter().map(|value| run(*value)).collect() };
        let calm = side(&[100.0, 101.0, 99.0]);
        assert_eq!(judged(&calm, &side(&[115.0, 116.0, 114.0]), "hold.p99_ms"), Judged::Worse);
        assert_eq!(
            judged(&calm, &side(&[103.0, 104.0, 102.0]), "hold.p99_ms"),
            Judged::Same,
            "3 % is little"
        );
        let wild = side(&[60.0, 100.0, 140.0]);
        assert_eq!(judged(&wild, &side(&[80.0, 120.0, 160.0]), "hold.p99_ms"), Judged::Same);
        assert_eq!(judged(&calm, &side(&[400.0]), "hold.p99_ms"), Judged::Worse, "three against one");
        let oversold = |values: &[f64]| -> Vec<Report> {
            values.iter().map(|value| report(&[("sale.oversold", *value)])).collect()
        };
        let (none, once) = (oversold(&[0.0; 3]), oversold(&[0.0, 1.0, 0.0]));
        assert_eq!(judged(&none, &once, "sale.oversold"), Judged::Worse, "in one of three");
    }
}
