//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

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
    /// Run a scenario. The exit code is 0 if every service level held, 1 if one did not, 2 if the run could not be made,
    /// 3 if the harness itself was the bottleneck.
    Run(Box<Run>),
    /// Say what got better and what got worse between two runs, noise taken into account.
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
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Another seed than the scenario's.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Another duration than the scenario's, in seconds.
    #[arg(long, value_name = "SECONDS")]
    pub(crate) duration: Option<f64>,
    /// How the server is started again that a scenario has killed.
    #[arg(long, value_name = "COMMAND", requires = "server_pid")]
    pub(crate) server_start: Option<String>,
    /// Redis' process on this machine, for scenarios that kill it.
    #[arg(long, value_name = "PID")]
    pub(crate) redis_pid: Option<u32>,
    /// How Redis is started again.
    #[arg(long, value_name = "COMMAND", requires = "redis_pid")]
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
    /// The report.json of a run before.
    pub(crate) before: PathBuf,
    /// The report.json of a run after.
    pub(crate) after: PathBuf,
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

impl Run {
    /// A run of our own, against a Haul server.
    pub(crate) fn against(target: &str, scenario: PathBuf) -> Self {
        Self { scenario, target: Some(target.to_owned()), threads: Some(1), ..Self::default() }
    }
}

fn count(text: &str) -> Result<(String, u32), String> {
    let (group, count) = text.split_once('=').ok_or("write it like viewers=500")?;
    if !["viewers", "chatters", "buyers"].contains(&group) {
        return Err(format!("{group:?} is none of viewers, chatters and buyers"));
    }
    Ok((group.to_owned(), count.parse().map_err(|_| format!("{count:?} is no count"))?))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

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
            ("haul-loadtest compare a.json", "<AFTER>"),
            ("haul-loadtest rum", "run"),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
