//! What the harness itself can do on this machine: whether a run that needs so much can be believed.
//!
//! One line of JSON a case: what was measured, the least (or most) that is asked of it, and how busy the machine was
//! meanwhile. Figures by processor time hold whatever else runs here; those by the clock are what came about.

mod receive;

use std::{fs, path::PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::{cli, report::Report, run::of_scenario, scenario::Scenario};

/// 1,600 viewers of 1 Mb/s who stay: some more than are asked for, since a server at its end refuses the last.
const VIEWERS: &str = r#"
about = "1,600 viewers of 1 Mb/s"
duration_s = 45
levels = ["join.failed == 0"]
[publisher]
clip = "h264"
[[viewers]]
count = 1600
join_over_s = 15
decrypt = 0.02
"#;

/// 550 joins a second, each with some pictures and a goodbye.
const JOINS: &str = r#"
about = "550 joins a second"
duration_s = 15
levels = ["join.failed == 0"]
[publisher]
clip = "vp8"
[[viewers]]
count = 440
join_over_s = 0.8
stay_s = 0.4
return_after_s = 0.4
decrypt = 0
"#;

/// 10,000 buyers on a channel each, who all tap within five seconds.
const SALE: &str = r#"
about = "10,000 buyers within five seconds"
duration_s = 50
levels = ["channel.failed == 0"]
[[buyers]]
count = 10000
join_over_s = 25
tap_after_ms = [0, 4500]
decide_ms = [500, 3000]
[sale]
at_s = 33
stock = 100
"#;

/// A case.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Case {
    case: &'static str,
    unit: &'static str,
    value: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<f64>,
    /// To the bare thing in the same run, where there is one, and the least it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_min: Option<f64>,
    ok: bool,
    /// The machine's load average meanwhile.
    load: f64,
    /// Why the run, had it been about the server, would not have counted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invalid: Vec<String>,
}

impl Case {
    fn at_least(case: &'static str, unit: &'static str, value: f64, min: f64) -> Self {
        Self {
            case,
            unit,
            value,
            min: Some(min),
            max: None,
            ratio: None,
            ratio_min: None,
            ok: value >= min,
            load: load(),
            invalid: Vec::new(),
        }
    }

    fn at_most(case: &'static str, unit: &'static str, value: f64, max: f64) -> Self {
        Self { min: None, max: Some(max), ok: value <= max, ..Self::at_least(case, unit, value, 0.0) }
    }

    /// Nothing is asked of it.
    fn told(case: &'static str, unit: &'static str, value: f64) -> Self {
        Self { min: None, ok: true, ..Self::at_least(case, unit, value, 0.0) }
    }

    /// Where the kernel is the limit, coming near a bare loop is enough.
    fn beside(self, ratio: f64, ratio_min: f64) -> Self {
        Self { ok: self.ok || ratio >= ratio_min, ratio: Some(ratio), ratio_min: Some(ratio_min), ..self }
    }

    fn in_run(self, report: &Report) -> Self {
        Self { invalid: report.invalid.clone(), ..self }
    }
}

/// Measures, and prints each case. Returns whether all were enough.
pub(crate) async fn run(options: &cli::Calibrate) -> Result<bool> {
    if options.target.is_none()
        && let Some(part) = options.only.iter().find(|part| *part != "receive")
    {
        bail!("--only {part} needs a server: give --target URL and --token HOST_TOKEN");
    }
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|only| only == part);
    let mut cases = Vec::new();
    if wanted("receive") {
        let (bare, counted) = tokio::task::spawn_blocking(receive::both).await??;
        tell(&mut cases, received(bare, counted));
    }
    if let (Some(target), Some(token)) = (&options.target, &options.token) {
        for (part, text, judge) in [
            ("viewers", VIEWERS, viewers as fn(&Report) -> Vec<Case>),
            ("joins", JOINS, joins),
            ("sale", SALE, sale),
        ] {
            if wanted(part) {
                let report = scenario(part, text, target, token).await?;
                tell(&mut cases, judge(&report));
            }
        }
    }
    Ok(cases.iter().all(|case| case.ok))
}

fn tell(all: &mut Vec<Case>, cases: Vec<Case>) {
    for case in cases {
        println!("{}", serde_json::to_string(&case).unwrap_or_default());
        all.push(case);
    }
}

async fn scenario(part: &str, text: &str, target: &str, token: &str) -> Result<Report> {
    let options = cli::Run { token: token.to_owned(), ..cli::Run::against(target, PathBuf::from(part)) };
    of_scenario(&options, Scenario::parse(text, part)?).await
}

fn received(bare: receive::Cost, counted: receive::Cost) -> Vec<Case> {
    let value = counted.viewers().round();
    let case = Case::at_least("receive", "viewers of 1 Mb/s a core, by processor time", value, 1_500.0);
    vec![
        case.beside(bare.ns() / counted.ns(), 0.8),
        Case::told("receive.ns", "ns of processor time a packet", counted.ns().round()),
        Case::told("receive.bare_ns", "the same in a bare loop", bare.ns().round()),
    ]
}

fn measure(report: &Report, name: &str) -> f64 {
    report.measures.get(name).copied().unwrap_or(0.0)
}

fn viewers(report: &Report) -> Vec<Case> {
    let get = |name| measure(report, name);
    let cores = get("harness.cpu_s") / report.duration_s;
    [
        Case::at_least("viewers", "viewers of 1 Mb/s at once", get("join.most_at_once"), 1_500.0),
        Case::told("viewers.failed", "joins that the server refused or did not finish", get("join.failed")),
        Case::at_most(
            "viewers.drops",
            "datagrams that the harness' sockets dropped",
            get("harness.drops"),
            0.0,
        ),
        Case::at_most("viewers.cores", "cores that the harness used, joins included", cores, 1.0),
        // There is nobody else in this run: by person is by viewer.
        Case::at_most("memory", "KB a viewer", get("harness.kb_per_person"), 120.0),
    ]
    .map(|case| case.in_run(report))
    .into()
}

fn joins(report: &Report) -> Vec<Case> {
    let (attempts, cpu_s) = (measure(report, "join.attempts"), measure(report, "harness.cpu_s"));
    [
        Case::at_least("joins", "joins a second of the harness' processor time", attempts / cpu_s, 500.0),
        Case::at_least("joins.clock", "joins a second by the clock", attempts / report.duration_s, 500.0),
        Case::at_most("joins.failed", "joins that failed", measure(report, "join.failed"), 0.0),
    ]
    .map(|case| case.in_run(report))
    .into()
}

fn sale(report: &Report) -> Vec<Case> {
    let get = |name| measure(report, name);
    [
        Case::at_least("websockets", "open at once", get("channel.most_at_once"), 10_000.0),
        Case::at_least("holds", "holds offered", get("sale.offered"), 10_000.0),
        Case::at_most(
            "holds.within",
            "seconds from the first to the last",
            get("sale.offered_within_s"),
            5.0,
        ),
    ]
    .map(|case| case.in_run(report))
    .into()
}

/// The load average of the last minute.
fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_are_good() {
        for text in [VIEWERS, JOINS, SALE] {
            Scenario::parse(text, "test").unwrap();
        }
    }

    #[tokio::test]
    async fn what_needs_a_server_is_refused_without_one() {
        for part in ["viewers", "joins", "sale"] {
            let options = cli::Calibrate {
                target: None,
                token: None,
                only: vec!["receive".to_owned(), part.to_owned()],
            };
            let error = run(&options).await.unwrap_err().to_string();
            assert!(error.starts_with(&format!("--only {part} needs a server")), "{error}");
        }
    }

    #[test]
    fn cases_are_judged_by_their_bounds() {
        assert!(
            Case::at_least("x", "y", 1_500.0, 1_500.0).ok && !Case::at_least("x", "y", 1_499.0, 1_500.0).ok
        );
        assert!(Case::at_most("x", "y", 120.0, 120.0).ok && !Case::at_most("x", "y", 121.0, 120.0).ok);
        assert!(Case::at_least("x", "y", 900.0, 1_500.0).beside(0.85, 0.8).ok, "the kernel is the limit");
        assert!(!Case::at_least("x", "y", 900.0, 1_500.0).beside(0.7, 0.8).ok);
        let line = serde_json::to_string(&Case { load: 0.5, ..Case::at_most("x", "y", 1.0, 2.0) }).unwrap();
        assert_eq!(line, r#"{"case":"x","unit":"y","value":1.0,"max":2.0,"ok":true,"load":0.5}"#);
    }

    #[test]
    fn a_run_becomes_cases() {
        let mut report = crate::report::tests::example();
        report.duration_s = 10.0;
        report.invalid.push("busy".to_owned());
        for (name, value) in [
            ("join.attempts", 6_000.0),
            ("harness.cpu_s", 8.0),
            ("join.most_at_once", 1_500.0),
            ("harness.kb_per_person", 130.0),
        ] {
            report.measures.insert(name.to_owned(), value);
        }
        let told = |cases: Vec<Case>| {
            cases.into_iter().map(|case| (case.case, case.value, case.ok)).collect::<Vec<_>>()
        };
        assert_eq!(told(joins(&report))[..2], [("joins", 750.0, true), ("joins.clock", 600.0, true)]);
        let viewers = viewers(&report);
        assert_eq!(viewers[0].invalid, ["busy"]);
        let viewers = told(viewers);
        assert_eq!((viewers[0], viewers[4]), (("viewers", 1_500.0, true), ("memory", 130.0, false)));
        assert!(!sale(&report).iter().all(|case| case.ok), "what did not come about is not enough");
    }
}
