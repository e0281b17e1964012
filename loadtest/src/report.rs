//! A run's report: what `report.json` says, from which the page, the summary and comparisons are made.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{histogram::Summary, level::Verdict, measure::Measures};

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
    /// Why the numbers are not to be trusted: the harness itself was the bottleneck. Empty for a valid run.
    pub(crate) invalid: Vec<String>,
    pub(crate) levels: Vec<Verdict>,
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

    /// One screen: the verdict, what did not hold, and how it was for whom.
    pub(crate) fn summary(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let verdict = match (self.passed, self.invalid.is_empty()) {
            (true, true) => "PASSED",
            (false, true) => "FAILED",
            (_, false) => "INVALID",
        };
        let _ = writeln!(text, "\n{verdict}  {} · {:.0} s · {}", self.scenario, self.duration_s, self.target);
        for why in &self.invalid {
            let _ = writeln!(text, "  the harness itself was the bottleneck: {why}");
        }
        let width = self.levels.iter().map(|verdict| verdict.level.len()).max().unwrap_or(0);
        let mut levels: Vec<_> = self.levels.iter().collect();
        levels.sort_by_key(|verdict| verdict.holds);
        for verdict in levels {
            let measured = verdict.measured.map_or("not measured".to_owned(), number);
            let mark = if verdict.holds { "ok    " } else { "FAILED" };
            let _ = writeln!(text, "  {mark}  {:width$}  {measured}", verdict.level);
        }
        let _ = writeln!(
            text,
            "\n  {:<18} {:>8} {:>9} {:>9} {:>9} {:>9}",
            "ms", "count", "p50", "p90", "p99", "max"
        );
        for distribution in crate::level::DISTRIBUTIONS {
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
            let _ = writeln!(text, "  server   {} % of a core, {} MB", number(cpu), number(memory));
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
            invalid: Vec::new(),
            levels: vec![Verdict {
                level: "sale.oversold == 0".to_owned(),
                measured: Some(1.0),
                holds: false,
            }],
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
        report.passed = true;
        assert!(report.summary().starts_with("\nPASSED"));
        report.invalid.push("too slow".to_owned());
        assert!(report.summary().starts_with("\nINVALID"));
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
