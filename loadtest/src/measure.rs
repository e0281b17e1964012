//! From what was counted to the measures that levels, reports and comparisons name.

use std::collections::BTreeMap;

use crate::{
    catalog::{DISTRIBUTIONS, GROUPS, STATISTICS, Source, statistic},
    histogram::Histogram,
    tally::Tally,
};

/// Measures by name.
pub(crate) type Measures = BTreeMap<String, f64>;

/// The measures of a tally. Those of kinds of actors that were not there are left out: nobody's joins are not perfect
/// joins.
pub(crate) fn of_tally(tally: &Tally) -> Measures {
    let mut measures = Measures::new();
    for (distribution, histogram) in DISTRIBUTIONS.iter().zip(tally.times()) {
        statistics(&mut measures, distribution.name, histogram);
    }
    for group in GROUPS.iter().filter(|group| group.when.is_none_or(|count| tally.get(count) > 0)) {
        for scalar in group.scalars {
            measures.extend(value(tally, scalar.source).map(|value| (scalar.name.to_owned(), value)));
        }
    }
    measures
}

/// A number by what was counted; none where it would be a share of nothing.
fn value(tally: &Tally, source: Source) -> Option<f64> {
    let get = |count| tally.get(count) as f64;
    let of = |part: f64, whole: f64| (whole > 0.0).then(|| part / whole);
    match source {
        Source::Count(count) => Some(get(count)),
        Source::Percent(part, whole) => of(100.0 * get(part), whole.iter().map(|count| get(*count)).sum()),
        Source::PerHour(count, us) => of(3_600.0 * 1e6 * get(count), get(us)),
        Source::Kbps(bytes, us) => of(8_000.0 * get(bytes), get(us)),
        Source::Told => None,
    }
}

/// The statistics of a distribution.
pub(crate) fn statistics(measures: &mut Measures, name: &str, histogram: &Histogram) {
    let values = [
        histogram.quantile_us(0.5).map(|us| us as f64),
        histogram.quantile_us(0.9).map(|us| us as f64),
        histogram.quantile_us(0.95).map(|us| us as f64),
        histogram.quantile_us(0.99).map(|us| us as f64),
        histogram.quantile_us(0.999).map(|us| us as f64),
        histogram.max_us().map(|us| us as f64),
        histogram.mean_us(),
    ];
    for (label, value) in STATISTICS.iter().zip(values) {
        if let Some(us) = value {
            measures.insert(statistic(name, label), us / 1_000.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        catalog,
        tally::{Count, Time},
    };

    #[test]
    fn every_measure_has_a_name_that_levels_know() {
        let mut tally = Tally::default();
        for count in [Count::Packets, Count::LayerUsF, Count::LayerBytesF] {
            tally.count(count, 100);
        }
        tally.count(Count::Expected, 200);
        tally.count(Count::Lost, 1);
        tally.record(Time::Hold, Duration::from_millis(12));
        let measures = of_tally(&tally);
        assert_eq!(measures["media.loss_pct"], 0.5);
        assert_eq!(measures["hold.max_ms"], 12.0);
        assert_eq!((measures["media.layer_f_kbps"], measures["media.layer_f_pct"]), (8_000.0, 100.0));
        assert!(!measures.contains_key("media.layer_q_kbps"), "nobody had that one");
        for name in of_tally(&Tally::full()).keys() {
            assert!(catalog::names().contains(name), "{name}");
        }
        assert!(of_tally(&Tally::default()).is_empty(), "nothing happened, so nothing is said");
    }
}
