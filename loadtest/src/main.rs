//! `haul-loadtest`: what can this server carry, and does it hold when things break?
//!
//! Actors are real protocol clients, thousands a process. A scenario (`scenario`) is unrolled into a plan in virtual time
//! (`plan`), which a run (`run`) carries out: viewers' threads (`pool`, `viewer`, `reception`) and tasks (`moq`), hosts
//! (`host`, `publisher`, `moq_publisher`), everybody on the channel (`shop`), and what breaks (`faults`, `network`). What they count (`tally`) becomes
//! measures (`measure`), levels judge them (`level`), and reports tell them (`report`). It measures from outside, and knows
//! the server only by its protocols.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod archive;
mod audit;
mod bottleneck;
mod calibrate;
mod capacity;
mod catalog;
mod channel;
mod cli;
mod clip;
mod compare;
mod faults;
mod feedback;
mod histogram;
mod host;
mod html;
mod http;
mod keys;
mod late;
mod leftovers;
mod level;
mod machine;
mod measure;
mod moq;
mod moq_publisher;
mod moq_tls;
mod net;
mod network;
mod outage;
mod outline;
mod pace;
mod peer;
mod places;
mod plan;
mod pool;
mod progress;
mod publisher;
mod quic_socket;
mod random;
mod reception;
mod report;
mod rtp;
mod run;
mod scenario;
mod shards;
mod shop;
mod srtp;
mod stamp;
mod suggest;
mod tally;
mod viewer;
mod watch;
mod webhooks;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;

use crate::{
    archive::Archive,
    cli::{Cli, Command},
    report::Report,
};

/// The exit codes beside those of a run's [`Outcome`](report::Outcome).
const NOT_ENOUGH: u8 = 1;
const NOT_DONE: u8 = 2;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(options) => run(&options),
        Command::Compare(options) => compare(&options),
        Command::Check(options) => check(&options),
        Command::Calibrate(options) => calibrate(&options),
        Command::Measures => {
            measures();
            Ok(0)
        }
    };
    match result {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("haul-loadtest: {error:#}");
            NOT_DONE.into()
        }
    }
}

fn run(options: &cli::Run) -> Result<u8> {
    let archive = options.report.as_deref().map(Archive::open).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run::run(options))?;
    let kept = archive.map_or(Ok(()), |archive| archive.keep(&report));
    say(&report.summary());
    let code = report.outcome().code();
    match kept {
        Ok(()) => Ok(code),
        // What failed is the more important news.
        Err(error) if code != 0 => {
            eprintln!("haul-loadtest: {error:#}");
            Ok(code)
        }
        Err(error) => Err(error),
    }
}

fn calibrate(options: &cli::Calibrate) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let enough = runtime.block_on(calibrate::run(options))?;
    Ok(if enough { 0 } else { NOT_ENOUGH })
}

fn compare(options: &cli::Compare) -> Result<u8> {
    let (before, after) = options.sides()?;
    let read = |paths: Vec<_>| paths.into_iter().map(Report::read).collect::<Result<Vec<_>>>();
    let (text, worse) = compare::text(&read(before)?, &read(after)?, options.all);
    say(&text);
    Ok(if worse { NOT_ENOUGH } else { 0 })
}

/// Says what a scenario would do.
fn check(options: &cli::Check) -> Result<u8> {
    let scenario = scenario::Scenario::read(&options.scenario)?;
    say(&outline::text(&scenario, &plan::Plan::new(&scenario)));
    Ok(0)
}

/// Says it to whoever listens: a reader that is gone, such as `head`, is no reason to panic.
fn say(text: &str) {
    let _ = io::stdout().write_all(text.as_bytes());
}

fn measures() {
    use std::fmt::Write as _;
    let mut text = format!("Times, each with {} (in ms):\n", catalog::STATISTICS.join(", "));
    for distribution in catalog::DISTRIBUTIONS {
        let name = catalog::statistic(distribution.name, "p95");
        let _ = writeln!(text, "  {name:<36} {}", distribution.about);
    }
    text += "\nNumbers:\n";
    let mut scalars: Vec<_> = catalog::scalars().collect();
    scalars.sort_by_key(|scalar| scalar.name);
    for scalar in scalars {
        let _ = writeln!(text, "  {:<36} {}", scalar.name, scalar.about);
    }
    say(&text);
}
