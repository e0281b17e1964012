//! The command line.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};
use haul_commerce::keys::Permission;
use haul_gateway::auth::Scope;
use haul_model::{BuyerId, LiveId, MerchantId, Role};

/// A live-stream commerce media server.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: ConfigFile,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the server (also what haul does without a command).
    Serve(ConfigFile),
    /// Mint a token and print it.
    Token(Token),
    /// Make an API key for a merchant's systems and print it: it can't be looked up again.
    Key(Key),
    /// Compare gate, ledger and payments of a live, and print every difference; ends with 1 where there is one.
    Reconcile(Reconcile),
}

#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration; without one, the defaults and a demo. HAUL__SECTION__KEY variables go over both.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The live it is for, or a pattern such as 'shop-7-*'.
    #[arg(long)]
    pub(crate) live: Scope,
    /// What it permits: host, moderator or viewer. Each includes what stands behind it.
    #[arg(long, value_parser = role)]
    pub(crate) role: Role,
    /// Who bears it: the id under which they chat, buy and publish.
    #[arg(long, value_name = "ID")]
    pub(crate) sub: BuyerId,
    /// Whose lives.
    #[arg(long, default_value = "main")]
    pub(crate) merchant: MerchantId,
    /// The name shown to others.
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// How long it is valid: a number and s, m, h or d.
    #[arg(long, default_value = "12h", value_parser = duration)]
    pub(crate) ttl: Duration,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// Whose it is; a merchant that is not known yet is one from then on.
    #[arg(long, default_value = "main")]
    pub(crate) merchant: MerchantId,
    /// What it is for.
    #[arg(long)]
    pub(crate) name: String,
    /// What it may be used for, separated by commas: orders:read, refunds:write, …, or * for everything.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub(crate) scopes: Vec<Permission>,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
pub(crate) struct Reconcile {
    /// Which live. Its server may be running.
    #[arg(long)]
    pub(crate) live: LiveId,
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

impl Cli {
    pub(crate) fn command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// The longest a token may be asked for: one that is lost can't be called back before its time.
const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

fn role(text: &str) -> Result<Role, String> {
    [Role::Host, Role::Moderator, Role::Viewer]
        .into_iter()
        .find(|role| role.as_str() == text)
        .ok_or_else(|| "expected host, moderator or viewer".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let read = || {
        let unit = text.chars().next_back()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 24 * 3600,
            _ => return None,
        };
        let count: u64 = text[..text.len() - unit.len_utf8()].parse().ok()?;
        Some(Duration::from_secs(count.checked_mul(seconds)?))
    };
    match read() {
        Some(ttl) if ttl > Duration::ZERO && ttl <= MAX_TTL => Ok(ttl),
        _ => Err("expected a number and s, m, h or d, such as 12h, and at most 366d".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Cli::try_parse_from(line.split(' ')).map(Cli::command).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as CommandFactory>::command().debug_assert();
    }

    #[test]
    fn no_command_is_serve() {
        assert!(matches!(parse("haul"), Ok(Command::Serve(ConfigFile { config: None }))));
        for line in ["haul --config a.toml", "haul serve --config a.toml"] {
            let Ok(Command::Serve(ConfigFile { config: Some(path) })) = parse(line) else { panic!("{line}") };
            assert_eq!(path, PathBuf::from("a.toml"));
        }
    }

    #[test]
    fn a_token_has_what_was_asked_for() {
        let Ok(Command::Token(token)) = parse("haul token --live demo --role host --sub mia --ttl 90m")
        else {
            panic!("refused");
        };
        assert_eq!((token.role, token.sub.as_str(), token.ttl.as_secs()), (Role::Host, "mia", 5400));
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        for (line, expected) in [
            ("haul token --live demo --role owner --sub mia", "host, moderator or viewer"),
            ("haul token --live demo --role host --sub {x}", "an id may have"),
            ("haul token --live a/b --role host --sub mia", "an id may have"),
            ("haul token --live demo --role host --sub mia --ttl 0s", "such as 12h"),
            ("haul token --live demo --role host --sub mia --ttl 9999999d", "such as 12h"),
            ("haul token --live demo --role host --sub mia --ttl 3夜", "such as 12h"),
            ("haul token --role host --sub mia", "--live"),
            ("haul key --name shop --scopes cake:eat", "such as orders:read"),
            ("haul key", "--name"),
            ("haul serv", "serve"),
        ] {
            let error = parse(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
