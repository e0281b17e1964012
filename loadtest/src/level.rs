//! Service levels: what must hold for a run to pass, such as `join.ttff_p95_ms <= 800`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer};

use crate::{catalog, suggest};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
}

const RELATIONS: [(&str, Relation); 5] = [
    // Longer ones first: "<" is the beginning of "<=".
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("<", Relation::Below),
    (">", Relation::Above),
];

/// One service level.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Level {
    pub(crate) measure: String,
    relation: Relation,
    bound: f64,
}

/// What became of a level.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The level as it was written.
    pub(crate) level: String,
    /// What was measured; absent where nothing was.
    pub(crate) measured: Option<f64>,
    pub(crate) holds: bool,
}

impl Verdict {
    /// The measure that the level is about.
    pub(crate) fn measure(&self) -> &str {
        self.level.split(' ').next().unwrap_or_default()
    }

    /// It was measured and does not hold, and no harness that was too slow can have made it so.
    pub(crate) fn is_wrong(&self) -> bool {
        !self.holds && self.measured.is_some() && catalog::is_of_correctness(self.measure())
    }
}

/// What only who sees the server's process can measure.
const OF_THE_SERVER: &str = "server.";

/// Judges all levels. Those about a server that nobody has been shown can't be judged, and are told apart: that it can't be
/// seen is no fault of its own.
pub(crate) fn judge_all(
    levels: &[Level],
    judge: impl Fn(&Level) -> Verdict,
    server_is_seen: bool,
) -> (Vec<Verdict>, Vec<String>) {
    let verdicts = levels.iter().map(judge);
    let (hidden, judged): (Vec<_>, Vec<_>) = verdicts.partition(|verdict| {
        !server_is_seen && verdict.measured.is_none() && verdict.level.starts_with(OF_THE_SERVER)
    });
    (judged, hidden.into_iter().map(|verdict| verdict.level).collect())
}

impl Level {
    /// Judges by what was measured. A level about something that was not measured does not hold: a run in which nobody
    /// joined has no slow joins either.
    pub(crate) fn judge(&self, measures: &BTreeMap<String, f64>) -> Verdict {
        let measured = measures.get(&self.measure).copied();
        let holds = measured.is_some_and(|measured| match self.relation {
            Relation::AtMost => measured <= self.bound,
            Relation::Below => measured < self.bound,
            Relation::AtLeast => measured >= self.bound,
            Relation::Above => measured > self.bound,
            Relation::Equal => measured == self.bound,
        });
        Verdict { level: self.to_string(), measured, holds }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = RELATIONS.iter().find_map(|(sign, relation)| {
            text.split_once(sign).map(|(measure, bound)| (measure.trim(), *relation, bound.trim()))
        });
        let Some((measure, relation, bound)) = found else {
            return Err(format!("{text:?} has no comparison: write it like join.ttff_p95_ms <= 800"));
        };
        let number = bound.parse::<f64>().ok().filter(|number| number.is_finite());
        let bound = number.ok_or_else(|| format!("{bound:?} in {text:?} is no number"))?;
        let names = catalog::names();
        if !names.iter().any(|name| name == measure) {
            let hint = suggest::nearest(measure, names.iter().map(String::as_str));
            let hint = hint.map(|name| format!(": did you mean {name}?")).unwrap_or_default();
            return Err(format!(
                "nothing called {measure} is measured{hint} (haul-loadtest measures lists all)"
            ));
        }
        Ok(Self { measure: measure.to_owned(), relation, bound })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign =
            RELATIONS.iter().find(|(_, relation)| *relation == self.relation).map_or("?", |pair| pair.0);
        write!(f, "{} {sign} {}", self.measure, self.bound)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(level: &str, measured: Option<f64>) -> bool {
        let level: Level = level.parse().unwrap();
        let measures = measured.map(|value| (level.measure.clone(), value)).into_iter().collect();
        level.judge(&measures).holds
    }

    #[test]
    fn levels_hold_by_what_was_measured() {
        assert!(judge("join.ttff_p95_ms <= 800", Some(800.0)));
        assert!(!judge("join.ttff_p95_ms <= 800", Some(800.1)));
        assert!(!judge("join.ttff_p95_ms < 800", Some(800.0)));
        assert!(judge("stock_event.p99_ms<=500", Some(3.0)));
        assert!(judge("sale.oversold == 0", Some(0.0)));
        assert!(!judge("sale.oversold == 0", Some(1.0)));
        assert!(judge("capacity.viewers >= 100", Some(100.0)));
        assert!(!judge("capacity.viewers > 100", Some(100.0)));
        assert!(!judge("sale.oversold == 0", None), "what was not measured does not hold");
    }

    #[test]
    fn levels_are_read_strictly_and_written_as_they_were() {
        let level: Level = "media.loss_pct   <=0.5".parse().unwrap();
        assert_eq!(level.to_string(), "media.loss_pct <= 0.5");
        for (text, expected) in [
            ("join.ttff_p95_ms 800", "no comparison"),
            ("join.ttff_p95_ms <= fast", "no number"),
            ("join.ttff_p95_ms <= inf", "no number"),
            ("join.ttff_p95_ms <= nan", "no number"),
            ("stock_evnt.p99_ms <= 1", "did you mean stock_event.p99_ms?"),
        ] {
            assert!(text.parse::<Level>().unwrap_err().contains(expected), "{text}");
        }
    }
    #[test]
    fn a_server_that_can_not_be_seen_is_not_judged_by_its_memory() {
        let levels: Vec<Level> =
            ["server.rss_growth_mb <= 10", "join.failed == 0"].map(|text| text.parse().unwrap()).into();
        let mut measures: BTreeMap<String, f64> = [("join.failed".to_owned(), 0.0)].into();
        let (judged, hidden) = judge_all(&levels, |level| level.judge(&measures), false);
        assert_eq!((judged.len(), &hidden[..]), (1, &["server.rss_growth_mb <= 10".to_owned()][..]));
        let (judged, hidden) = judge_all(&levels, |level| level.judge(&measures), true);
        assert!(!judged[0].holds && hidden.is_empty(), "who was shown it and saw nothing is told so");
        measures.insert("server.rss_growth_mb".to_owned(), 11.0);
        assert!(
            !judge_all(&levels, |level| level.judge(&measures), false).0[0].holds,
            "what is measured is judged"
        );
    }

    #[test]
    fn wrong_is_another_thing_than_slow() {
        let verdict = |level: &str, holds| Verdict { level: level.to_owned(), measured: Some(1.0), holds };
        assert!(verdict("sale.oversold == 0", false).is_wrong());
        assert!(!verdict("sale.oversold == 0", true).is_wrong());
        assert!(!verdict("hold.p99_ms <= 500", false).is_wrong());
        let unknown = Verdict { measured: None, ..verdict("sale.oversold == 0", false) };
        assert!(!unknown.is_wrong(), "books that were not compared accuse nobody");
    }
}
