//! A run's report: what `report.json` says, from which the page, the summary and comparisons are made.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{catalog::unit, histogram::Summary, level::Verdict, measure::Measures, plan::Plan};

/// The version of the file's form.
pub(crate) const FORMAT: u32 = 1;

/// All that is known of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Of this file's form: another one is not read.
    pub(crate) format: u32,
    /// The harness' version.
    pub(crate) version: String,
    /// The scenario's name: its file's.
    pub(crate) scenario: String,
    pub(crate) about: String,
    pub(crate) seed: u64,
    pub(crate) target: String,
    /// The command that was given, without tokens.
    pub(crate) command: String,
    /// When it began, in milliseconds since 1970.
    pub(crate) started_at_ms: u64,
    pub(crate) duration_s: f64,
    pub(crate) machine: String,
    /// Every level held.
    pub(crate) passed: bool,
    /// Who was to be there.
    #[serde(default)]
    pub(crate) who: Who,
    /// Why the numbers are not to be trusted: the harness itself was the bottleneck. Empty for a valid run.
    pub(crate) invalid: Vec<String>,
    pub(crate) levels: Vec<Verdict>,
    /// Levels about the server that could not be judged, since nobody had said which process it is.
    #[serde(default)]
    pub(crate) not_judged: Vec<String>,
    pub(crate) measures: Measures,
    /// Distributions by name, in milliseconds.
    pub(crate) distributions: BTreeMap<String, Summary>,
    /// What happened when.
    pub(crate) notes: Vec<Note>,
    /// What went wrong, by kind, most frequent first.
    pub(crate) complaints: Vec<(String, u64)>,
    /// Second by second.
    pub(crate) series: Series,
    /// Busiest threads: of whom, name, mean per cent of a core.
    pub(crate) threads: Vec<(String, String, f64)>,
    /// What the ledger and the buyers' own records say of the sale.
    pub(crate) audit: Option<Audit>,
}

/// What came of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every level held.
    Passed,
    /// One did not.
    Failed,
    /// The harness itself was the bottleneck: what is slow may be that.
    Invalid,
    /// So it was; and beside that, a level that tells right from wrong did not hold, which it can't have been.
    Wrong,
}

impl Outcome {
    /// In a word or two.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Failed => "FAILED",
            Self::Invalid => "INVALID",
            Self::Wrong => "FAILED, AND INVALID",
        }
    }

    /// The exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => 1,
            Self::Invalid => 3,
            Self::Wrong => 4,
        }
    }
}

/// How many there are of each kind, in all lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Who {
    pub(crate) lives: usize,
    pub(crate) viewers: usize,
    pub(crate) chatters: usize,
    pub(crate) buyers: usize,
}

impl Who {
    /// Of the plans of all lives.
    pub(crate) fn of<'p>(plans: impl IntoIterator<Item = &'p Plan>) -> Self {
        plans.into_iter().fold(Self::default(), |who, plan| Self {
            lives: who.lives + 1,
            viewers: who.viewers + plan.viewers.len(),
            chatters: who.chatters + plan.chatters.len(),
            buyers: who.buyers + plan.buyers.len(),
        })
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds = [(self.viewers, "viewers"), (self.chatters, "on the channel"), (self.buyers, "buyers")];
        let told = kinds.into_iter().filter(|(count, _)| *count > 0);
        let mut told: Vec<_> = told.map(|(count, kind)| format!("{} {kind}", number(count as f64))).collect();
        if self.lives > 1 {
            told.push(format!("in {} lives", self.lives));
        }
        f.write_str(if told.is_empty() { "nobody".to_owned() } else { told.join(", ") }.as_str())
    }
}

/// Something that happened during a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Note {
    pub(crate) at_s: f64,
    pub(crate) text: String,
}

/// Values at points in time; absent where there was nothing to measure.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Series {
    pub(crate) at_s: Vec<f64>,
    pub(crate) lines: BTreeMap<String, Vec<Option<f64>>>,
}

impl Series {
    /// A new point in time.
    pub(crate) fn at(&mut self, at_s: f64) {
        self.at_s.push(at_s);
    }

    /// The value of a line at the last point.
    pub(crate) fn put(&mut self, line: &str, value: Option<f64>) {
        let values = self.lines.entry(line.to_owned()).or_default();
        values.resize(self.at_s.len().saturating_sub(1), None);
        values.push(value);
    }
}

/// The books of a sale, side by side; of several lives, their sums.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Audit {
    pub(crate) stock: u32,
    /// Units of holds that were granted, of those given back, and of orders confirmed, by the buyers' own records.
    pub(crate) held_units: u32,
    pub(crate) released_units: u32,
    pub(crate) confirmed_units: u32,
    pub(crate) confirmed_orders: u32,
    /// What the server's sale and its ledger say.
    pub(crate) ledger_units: Option<u32>,
    pub(crate) ledger_orders: Option<u32>,
    pub(crate) sale_sold: Option<u32>,
    /// Holds that were compared with the server's one by one; absent where they could not be.
    #[serde(default)]
    pub(crate) holds_compared: Option<u32>,
    /// Orders that the webhook was told are sold; absent where there was none.
    #[serde(default)]
    pub(crate) webhook_orders: Option<u32>,
    /// Every difference, in words.
    pub(crate) differences: Vec<String>,
    /// What was not compared, and why.
    pub(crate) not_compared: Vec<String>,
}

/// How a number is written for people.
pub(crate) fn number(value: f64) -> String {
    if value == value.trunc() && value.abs() < 1e15 {
        let digits = format!("{}", value.abs() as u64);
        let mut text = String::new();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at) % 3 == 0 {
                text.push(',');
            }
            text.push(digit);
        }
        return if value < 0.0 { format!("-{text}") } else { text };
    }
    match value.abs() {
        size if size >= 100.0 => number(value.round()),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl Verdict {
    /// With its unit.
    pub(crate) fn measured_in_words(&self) -> String {
        let Some(measured) = self.measured else { return "not measured".to_owned() };
        format!("{} {}", number(measured), unit(self.measure())).trim_end().to_owned()
    }
}

impl Report {
    /// Reads a report.json.
    pub(crate) fn read(path: &std::path::Path) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        let name = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("can't read {name}"))?;
        let report: Self = serde_json::from_str(&text).with_context(|| format!("{name} is no report"))?;
        anyhow::ensure!(
            report.format == FORMAT,
            "{name} is of form {}, this harness reads {FORMAT}",
            report.format
        );
        Ok(report)
    }

    /// What came of it.
    pub(crate) fn outcome(&self) -> Outcome {
        let wrong = self.levels.iter().any(Verdict::is_wrong);
        match (self.invalid.is_empty(), self.passed) {
            (false, _) if wrong => Outcome::Wrong,
            (false, _) => Outcome::Invalid,
            (true, true) => Outcome::Passed,
            (true, false) => Outcome::Failed,
        }
    }

    /// What is wrong first, then what else did not hold.
    pub(crate) fn levels_in_order(&self) -> Vec<&Verdict> {
        let mut levels: Vec<_> = self.levels.iter().collect();
        levels.sort_by_key(|verdict| (!verdict.is_wrong(), verdict.holds));
        levels
    }

    /// One screen: the verdict, what did not hold, and how it was for whom.
    pub(crate) fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let outcome = self.outcome();
        let _ = writeln!(
            text,
            "\n{}  {} · {:.0} s · {}",
            outcome.word(),
            self.scenario,
            self.duration_s,
            self.target
        );
        if outcome == Outcome::Wrong {
            let _ = writeln!(text, "  what is wrong below is wrong, however slow the harness was; besides,");
        }
        for why in &self.invalid {
            let _ = writeln!(text, "  the harness itself was the bottleneck: {why}");
        }
        let levels = self.levels_in_order();
        let width = levels.iter().map(|verdict| verdict.level.len()).max().unwrap_or(0);
        for verdict in levels {
            let measured = verdict.measured_in_words();
            let mark = if verdict.holds { "ok    " } else { "FAILED" };
            let _ = writeln!(text, "  {mark}  {:width$}  {measured}", verdict.level);
        }
        if !self.not_judged.is_empty() {
            let levels = self.not_judged.join(", ");
            let _ = writeln!(text, "  not judged, as --server-pid was not given: {levels}");
        }
        let _ = writeln!(
            text,
            "\n  {:<18} {:>8} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "p50", "p90", "p99", "max"
        );
        for distribution in crate::catalog::DISTRIBUTIONS {
            let Some(summary) = self.distributions.get(distribution.name).filter(|s| s.count > 0) else {
                continue;
            };
            let cell = |value: Option<f64>| value.map_or("-".to_owned(), number);
            let (p50, p90, p99, max) =
                (cell(summary.p50), cell(summary.p90), cell(summary.p99), cell(summary.max));
            let count = number(summary.count as f64);
            let _ =
                writeln!(text, "  {:<18} {count:>8} {p50:>9} {p90:>9} {p99:>9} {max:>9}", distribution.title);
        }
        let get = |name: &str| self.measures.get(name).copied();
        if let Some(packets) = get("media.packets") {
            let _ = writeln!(
                text,
                "\n  media    {} packets, {} lost ({} %), {} freezes, {} kb/s a viewer, {} viewers at most",
                number(packets),
                number(get("media.lost").unwrap_or(0.0)),
                number(get("media.loss_pct").unwrap_or(0.0)),
                number(get("media.freezes").unwrap_or(0.0)),
                number(get("media.viewer_kbps").unwrap_or(0.0)),
                number(get("join.most_at_once").unwrap_or(0.0)),
            );
        }
        for (kind, who) in [("viewers", "viewers"), ("channels", "people on the channel")] {
            let Some(times) = get(&format!("drop.{kind}")) else { continue };
            let of = |way: &str| number(get(&format!("drop.{kind}_{way}")).unwrap_or(0.0));
            let _ = writeln!(
                text,
                "  drops    {} networks of {who}: {} went on, {} came anew, {} were lost",
                number(times),
                of("same"),
                of("anew"),
                of("lost"),
            );
        }
        if let Some(audit) = &self.audit {
            let _ = writeln!(
                text,
                "  sale     stock {}, {} units confirmed to buyers, {} in the ledger, {} differences",
                audit.stock,
                audit.confirmed_units,
                audit.ledger_units.map_or("unknown".to_owned(), |units| units.to_string()),
                audit.differences.len(),
            );
            for difference in audit.differences.iter().take(5) {
                let _ = writeln!(text, "           {difference}");
            }
            for what in &audit.not_compared {
                let _ = writeln!(text, "           not compared: {what}");
            }
        }
        if let (Some(busy), Some(drops)) = (get("harness.cpu_pct"), get("harness.drops")) {
            let _ = writeln!(
                text,
                "  harness  busiest thread {} % of a core, {} datagrams dropped by its sockets",
                number(busy),
                number(drops)
            );
        }
        if let Some(cpu) = get("server.cpu_pct") {
            let memory = get("server.rss_mb").unwrap_or(0.0);
            let waited = number(get("server.waiting_pct").unwrap_or(0.0));
            let (cpu, memory) = (number(cpu), number(memory));
            let _ = writeln!(
                text,
                "  server   {cpu} % of a core, {memory} MB; its threads waited for a core {waited} % of the time"
            );
        }
        for (what, times) in self.complaints.iter().take(6) {
            let _ = writeln!(text, "  {times:>7} × {what}");
        }
        text
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run in which little happened.
    pub(crate) fn example() -> Report {
        Report {
            format: FORMAT,
            version: "0".to_owned(),
            scenario: "smoke".to_owned(),
            about: "An example".to_owned(),
            seed: 1,
            target: "http://127.0.0.1:8080".to_owned(),
            command: "haul-loadtest run smoke.toml".to_owned(),
            started_at_ms: 0,
            duration_s: 30.0,
            machine: "a machine".to_owned(),
            passed: false,
            who: Who { lives: 1, viewers: 25, chatters: 20, buyers: 30 },
            invalid: Vec::new(),
            levels: vec![Verdict {
                level: "sale.oversold == 0".to_owned(),
                measured: Some(1.0),
                holds: false,
            }],
            not_judged: Vec::new(),
            measures: [("media.packets".to_owned(), 12_345.0)].into(),
            distributions: BTreeMap::new(),
            notes: vec![Note { at_s: 10.0, text: "the sale opens".to_owned() }],
            complaints: vec![("<script>".to_owned(), 2)],
            series: Series::default(),
            threads: Vec::new(),
            audit: Some(Audit { stock: 1, confirmed_units: 2, ..Audit::default() }),
        }
    }

    #[test]
    fn the_summary_begins_with_the_verdict_and_what_failed() {
        let mut report = example();
        let summary = report.summary();
        assert!(summary.starts_with("\nFAILED  smoke"), "{summary}");
        assert!(summary.contains("FAILED  sale.oversold == 0  1"), "{summary}");
        assert!(summary.contains("12,345 packets") && summary.contains("stock 1, 2 units"), "{summary}");
        let audit = report.audit.as_mut().unwrap();
        audit.not_compared.push("webhooks: there is no key".to_owned());
        assert!(report.summary().contains("not compared: webhooks: there is no key"));
        report.measures.extend([("drop.channels".to_owned(), 9.0), ("drop.channels_same".to_owned(), 9.0)]);
        assert!(report.summary().contains("9 networks of people on the channel: 9 went on, 0 came anew"));
        report.levels[0].holds = true;
        report.passed = true;
        assert!(report.summary().starts_with("\nPASSED"));
        report.not_judged.push("server.rss_mb <= 1".to_owned());
        assert!(report.summary().contains("--server-pid was not given: server.rss_mb <= 1"));
        report.invalid.push("too slow".to_owned());
        assert!(report.summary().starts_with("\nINVALID"));
    }

    #[test]
    fn what_is_wrong_is_not_outranked_by_a_harness_that_was_slow() {
        let mut report = example();
        assert_eq!((report.outcome(), report.outcome().code()), (Outcome::Failed, 1));
        let slow = |holds| Verdict { level: "hold.p99_ms <= 5".to_owned(), measured: Some(9.0), holds };
        report.levels.insert(0, slow(false));
        report.invalid.push("its thread viewers-0 used up to 99 % of a core".to_owned());
        assert_eq!((report.outcome(), report.outcome().code()), (Outcome::Wrong, 4));
        let summary = report.summary();
        assert!(summary.starts_with("\nFAILED, AND INVALID  smoke"), "{summary}");
        let (wrong, late) =
            (summary.find("sale.oversold == 0").unwrap(), summary.find("hold.p99_ms").unwrap());
        assert!(wrong < late, "what is wrong comes first: {summary}");
        assert!(summary.contains("hold.p99_ms <= 5    9 ms"), "with its unit: {summary}");
        report.levels.retain(|verdict| !verdict.is_wrong());
        assert_eq!(
            (report.outcome(), report.outcome().code()),
            (Outcome::Invalid, 3),
            "slow may be the harness"
        );
    }

    #[test]
    fn who_was_there_is_told_in_words() {
        assert_eq!(example().who.to_string(), "25 viewers, 20 on the channel, 30 buyers");
        assert_eq!(
            Who { lives: 3, viewers: 1_000, ..Who::default() }.to_string(),
            "1,000 viewers, in 3 lives"
        );
    }

    #[test]
    fn numbers_are_written_for_people() {
        for (value, text) in [
            (0.0, "0"),
            (1_234_567.0, "1,234,567"),
            (999.0, "999"),
            (0.123, "0.12"),
            (12.34, "12.3"),
            (456.7, "457"),
            (2_195.4, "2,195"),
            (-3.0, "-3"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn lines_that_begin_later_stay_in_step() {
        let mut series = Series::default();
        series.at(1.0);
        series.put("a", Some(1.0));
        series.at(2.0);
        series.put("b", Some(2.0));
        series.put("a", None);
        assert_eq!(series.lines["a"], [Some(1.0), None]);
        assert_eq!(series.lines["b"], [None, Some(2.0)]);
    }
}
