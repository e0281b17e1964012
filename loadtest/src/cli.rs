//! The command line.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::scenario::MAX_SECONDS;

/// The most threads of viewers.
const MAX_THREADS: u64 = 256;

/// Puts a live-stream commerce server under load: publishers, viewers, chatters and buyers, all real protocol clients.
/// Says how it felt for them, and whether that is good enough.
#[derive(Debug, Parser)]
#[command(name = "haul-loadtest", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a scenario. The exit code is 0 if every service level held, 1 if one did not, 2 if the run could not be made or
    /// its report not be written, 3 if the harness itself was the bottleneck, 4 if it was and something was wrong besides that
    /// this can't explain, such as units sold twice.
    Run(Box<Run>),
    /// Say what got better and what got worse between runs, noise taken into account: compare A.json B.json, or, to know how
    /// much runs differ among themselves, compare A1.json A2.json A3.json -- B1.json B2.json B3.json. The exit code is 1 if
    /// something got worse.
    Compare(Compare),
    /// Read a scenario, and say what would happen when.
    Check(Check),
    /// Measure what the harness itself can do on this machine: what a thread of viewers receives, beside a bare loop; with a
    /// server also viewers, joins, websockets and holds. Prints a line of JSON a case; the exit code is 1 if one is below
    /// its minimum.
    Calibrate(Calibrate),
    /// List everything that service levels can name.
    Measures,
}

#[derive(Debug, Default, Args)]
pub(crate) struct Run {
    /// The scenario, such as configs/loadtest/smoke.toml.
    pub(crate) scenario: PathBuf,
    /// A Haul server: its base address, such as http://127.0.0.1:8080.
    #[arg(long, value_name = "URL", required_unless_present_any = ["whip", "whep"], conflicts_with_all = ["whip", "whep"])]
    pub(crate) target: Option<String>,
    /// Where to publish, on any server; the media parts of a scenario run without --target.
    #[arg(long, value_name = "URL")]
    pub(crate) whip: Option<String>,
    /// Where to watch, on any server.
    #[arg(long, value_name = "URL")]
    pub(crate) whep: Option<String>,
    /// The host's token. With --target, every actor gets a token of its own by it.
    #[arg(long, value_name = "TOKEN", default_value = "", hide_default_value = true)]
    pub(crate) token: String,
    /// The live; without it, the one the token is for. For a scenario in several lives, a pattern such as load-*: the star
    /// becomes 1, 2 and so on.
    #[arg(long, value_name = "ID")]
    pub(crate) live: Option<String>,
    /// Where to watch by Media over QUIC: without it, what the --target says.
    #[arg(long, value_name = "URL")]
    pub(crate) moq: Option<String>,
    /// SHA-256 of the certificate behind --moq, where no authority has signed it.
    #[arg(long, value_name = "HEX", requires = "moq")]
    pub(crate) moq_certificate: Option<String>,
    /// A key (haul key --name loadtest) that permits to register a webhook and to read all orders: both are compared with the
    /// sale's other books. A host's token for all lives does it as well.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    pub(crate) api_key: String,
    /// Where to listen for webhooks; without it, on a free port of the address that leads to the server.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) webhook_listen: Option<std::net::SocketAddr>,
    /// What the server is to call as the webhook, where that is another than the address itself.
    #[arg(long, value_name = "URL", requires = "webhook_listen")]
    pub(crate) webhook_url: Option<String>,
    /// A directory for report.json and report.html; made if it is not there.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// The server's process on this machine: its processor time and memory are measured.
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,
    /// Threads of viewers; without it, one a core.
    #[arg(long, value_name = "N", value_parser = threads)]
    pub(crate) threads: Option<usize>,
    /// Another seed than the scenario's.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Another duration than the scenario's, in seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) duration: Option<f64>,
    /// How the server is started again that a scenario has killed.
    #[arg(long, value_name = "COMMAND", requires = "server_pid", value_parser = one_command)]
    pub(crate) server_start: Option<String>,
    /// Redis' process on this machine, for scenarios that kill it.
    #[arg(long, value_name = "PID")]
    pub(crate) redis_pid: Option<u32>,
    /// How Redis is started again.
    #[arg(long, value_name = "COMMAND", requires = "redis_pid", value_parser = one_command)]
    pub(crate) redis_start: Option<String>,
    /// Permit the scenario to run the commands that are in it, and to kill what it names (faults).
    #[arg(long)]
    pub(crate) allow_commands: bool,
    /// Another number of viewers, chatters or buyers for the first such group: viewers=500.
    #[arg(long, value_name = "GROUP=COUNT", value_parser = count)]
    pub(crate) count: Vec<(String, u32)>,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The report.json of a run before, and of one after; or of several before, then -- and those after.
    #[arg(required = true, value_name = "REPORT")]
    pub(crate) before: Vec<PathBuf>,
    /// Reports of runs after.
    #[arg(last = true, value_name = "AFTER")]
    pub(crate) after: Vec<PathBuf>,
    /// List also what is the same.
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Calibrate {
    /// A Haul server, best on cores of its own.
    #[arg(long, value_name = "URL", requires = "token")]
    pub(crate) target: Option<String>,
    /// The host's token.
    #[arg(long, value_name = "TOKEN", requires = "target")]
    pub(crate) token: Option<String>,
    /// Only these parts, with commas between: receive, viewers, joins, sale.
    #[arg(long, value_name = "PARTS", value_delimiter = ',', value_parser = ["receive", "viewers", "joins", "sale"])]
    pub(crate) only: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The scenario.
    pub(crate) scenario: PathBuf,
}

impl Compare {
    /// The reports before, and those after.
    pub(crate) fn sides(&self) -> Result<(Vec<&Path>, Vec<&Path>)> {
        match (&self.before[..], &self.after[..]) {
            ([before, after], []) => Ok((vec![before], vec![after])),
            (_, []) => bail!(
                "compare needs two reports, A.json B.json, or several on each side of a --: A1.json A2.json -- B1.json B2.json"
            ),
            (before, after) => Ok((
                before.iter().map(PathBuf::as_path).collect(),
                after.iter().map(PathBuf::as_path).collect(),
            )),
        }
    }
}

impl Run {
    /// A run of our own, against a Haul server.
    pub(crate) fn against(target: &str, scenario: PathBuf) -> Self {
        Self { scenario, target: Some(target.to_owned()), threads: Some(1), ..Self::default() }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    if seconds > 0.0 && seconds <= MAX_SECONDS {
        Ok(seconds)
    } else {
        Err("a run lasts more than 0 seconds, and a week at most".to_owned())
    }
}

fn threads(text: &str) -> Result<usize, String> {
    let threads = text.parse().ok().filter(|threads| (1..=MAX_THREADS).contains(threads));
    threads.map(|threads| threads as usize).ok_or_else(|| format!("give a number from 1 to {MAX_THREADS}"))
}

fn count(text: &str) -> Result<(String, u32), String> {
    let (group, count) = text.split_once('=').ok_or("write it like viewers=500")?;
    if !["viewers", "chatters", "buyers"].contains(&group) {
        return Err(format!("{group:?} is none of viewers, chatters and buyers"));
    }
    Ok((group.to_owned(), count.parse().map_err(|_| format!("{count:?} is no count"))?))
}

/// A command that becomes the process it starts, so that it can be killed and measured.
fn one_command(text: &str) -> Result<String, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    // What is in quotes is no business of the shell's.
    let bare: String = text.split(['\'', '"']).step_by(2).collect();
    let several = bare.replace(">&", "").contains([';', '&', '|', '\n']);
    if first.is_empty() || first == "cd" || first.contains('=') || several {
        return Err("expected one command with its arguments, which is started with exec: put whatever else there is to \
                    do, as cd or a variable, into a script that ends with exec"
            .to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_started_again_is_one_command() {
        for good in ["haul serve", "env A='x;y' haul > log 2>&1", "nice -n 5 haul"] {
            assert_eq!(one_command(good).as_deref(), Ok(good));
        }
        for bad in ["", "cd /srv && haul", "A=1 haul", "haul &", "haul; true", "haul | tee log"] {
            assert!(one_command(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (line, expected) in [
            ("haul-loadtest run a.toml", "--target"),
            ("haul-loadtest run a.toml --target http://h --whep http://h", "cannot be used with"),
            ("haul-loadtest run a.toml --target http://h --count fans=3", "none of viewers"),
            ("haul-loadtest compare", "<REPORT>"),
            ("haul-loadtest run a.toml --target http://h --duration nan", "and a week at most"),
            ("haul-loadtest run a.toml --target http://h --duration inf", "and a week at most"),
            ("haul-loadtest run a.toml --target http://h --duration -1", "and a week at most"),
            ("haul-loadtest run a.toml --target http://h --duration=-1", "and a week at most"),
            ("haul-loadtest run a.toml --target http://h --duration soon", "no number of seconds"),
            ("haul-loadtest run a.toml --target http://h --threads 0", "from 1 to 256"),
            ("haul-loadtest run a.toml --target http://h --count viewers=-3", "no count"),
            ("haul-loadtest rum", "run"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn reports_are_one_against_one_or_on_two_sides() {
        let sides = |line: &str| {
            let Command::Compare(compare) = Cli::parse_from(line.split(' ')).command else { unreachable!() };
            compare
                .sides()
                .map(|(before, after)| (before.len(), after.len()))
                .map_err(|error| error.to_string())
        };
        assert_eq!(sides("haul-loadtest compare a b"), Ok((1, 1)));
        assert_eq!(sides("haul-loadtest compare a b -- c"), Ok((2, 1)));
        assert_eq!(sides("haul-loadtest compare --all a -- c d e"), Ok((1, 3)));
        for wrong in ["haul-loadtest compare a", "haul-loadtest compare a b c"] {
            assert!(sides(wrong).unwrap_err().contains("each side of a --"), "{wrong}");
        }
    }

    proptest! {
        /// Whatever stands for a number is refused with words, or is one that a run can be made with.
        #[test]
        fn no_number_of_the_command_line_does_harm(
            option in prop::sample::select(vec!["--duration", "--threads", "--seed", "--server-pid", "--count"]),
            value in prop_oneof![
                any::<f64>().prop_map(|value| value.to_string()),
                any::<f64>().prop_map(|value| format!("{value:e}")),
                any::<i128>().prop_map(|value| value.to_string()),
                "(viewers|buyers|fans)=-?[0-9]{0,12}",
                "[-+.0-9a-z=]{0,12}",
            ],
        ) {
            let line = ["haul-loadtest", "run", "a.toml", "--target", "http://h", &format!("{option}={value}")];
            match Cli::try_parse_from(line) {
                Err(error) => prop_assert!(!error.to_string().is_empty()),
                Ok(Cli { command: Command::Run(run) }) => {
                    let seconds = run.duration.unwrap_or(1.0);
                    prop_assert!(seconds > 0.0 && seconds <= MAX_SECONDS);
                    prop_assert!((1..=MAX_THREADS as usize).contains(&run.threads.unwrap_or(1)));
                }
                Ok(_) => prop_assert!(false, "another command"),
            }
        }
    }
}
