//! `haul-loadtest`: what can this server carry, and does it hold when things break?
//!
//! Actors are real protocol clients, thousands a process. A scenario (`scenario`) is unrolled into a plan in virtual time
//! (`plan`), which a run (`run`) carries out: viewers' threads (`pool`, `viewer`, `reception`) and tasks (`moq`), hosts
//! (`host`, `publisher`, `moq_publisher`), everybody on the channel (`shop`), and what breaks (`faults`, `network`). What they count (`tally`) becomes
//! measures (`measure`), levels judge them (`level`), and reports tell them (`report`). It measures from outside, and knows
//! the server only by its protocols.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod audit;
mod calibrate;
mod capacity;
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

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;

use crate::cli::{Cli, Command};

/// The exit codes beside 0.
const FAILED: u8 = 1;
const NOT_RUN: u8 = 2;
const INVALID: u8 = 3;

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
            NOT_RUN.into()
        }
    }
}

fn run(options: &cli::Run) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run::run(options))?;
    if let Some(directory) = &options.report {
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
        };
        std::fs::create_dir_all(directory).with_context(|| format!("can't make {}", directory.display()))?;
        write("report.json", serde_json::to_string_pretty(&report)?)?;
        write("report.html", html::page(&report))?;
    }
    print!("{}", report.summary());
    Ok(match (report.invalid.is_empty(), report.passed) {
        (false, _) => INVALID,
        (true, true) => 0,
        (true, false) => FAILED,
    })
}

fn calibrate(options: &cli::Calibrate) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let enough = runtime.block_on(calibrate::run(options))?;
    Ok(if enough { 0 } else { FAILED })
}

fn compare(options: &cli::Compare) -> Result<u8> {
    let (before, after) = (report::Report::read(&options.before)?, report::Report::read(&options.after)?);
    print!("{}", compare::text(&before, &after));
    Ok(0)
}

/// Says what a scenario would do.
fn check(options: &cli::Check) -> Result<u8> {
    let scenario = scenario::Scenario::read(&options.scenario)?;
    let plan = plan::Plan::new(&scenario);
    println!("{}", scenario.about);
    if scenario.lives > 1 {
        println!("in each of {} lives:", scenario.lives);
    }
    println!(
        "{} s: {} viewers, {} on the channel, {} buyers, {} steps",
        scenario.duration_s,
        plan.viewers.len(),
        plan.chatters.len(),
        plan.buyers.len(),
        plan.steps.len()
    );
    Ok(0)
}

fn measures() {
    println!("Times, each with {} (in ms):", level::STATISTICS.join(", "));
    for distribution in level::DISTRIBUTIONS {
        println!("  {:<36} {}", level::statistic(distribution.name, "p95"), distribution.about);
    }
    println!("\nNumbers:");
    for scalar in level::SCALARS {
        println!("  {:<36} {}", scalar.name, scalar.about);
    }
}
