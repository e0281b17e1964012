//! What breaks, and when.

use serde::Deserialize;

use super::{Amount, zero};
use crate::plan::Kind;

/// Something that breaks.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fault {
    pub(crate) at_s: Amount,
    /// What it is, for the report.
    pub(crate) name: String,
    /// A shell command to run, for local runs: only with `--allow-commands`.
    pub(crate) run: Option<String>,
    /// A process to kill, for local runs: its id and how it is started again are given on the command line.
    pub(crate) kill: Option<Victim>,
    /// The shares of viewers, chatters and buyers whose network fails, for `for_s`.
    pub(crate) network_of_viewers: Option<Amount>,
    pub(crate) network_of_chatters: Option<Amount>,
    pub(crate) network_of_buyers: Option<Amount>,
    /// What returns is another network: with another address, and without any connection of before.
    #[serde(default)]
    pub(crate) roam: bool,
    /// How long it lasts, for each network; after a kill, how long until the process is started again.
    #[serde(default = "zero")]
    pub(crate) for_s: Amount,
}

impl Fault {
    /// The share of a kind of actors whose network fails.
    pub(crate) fn network_of(&self, kind: Kind) -> Option<Amount> {
        match kind {
            Kind::Viewer => self.network_of_viewers,
            Kind::Chatter => self.network_of_chatters,
            Kind::Buyer => self.network_of_buyers,
        }
    }

    /// Whether it is about networks.
    pub(crate) fn is_of_networks(&self) -> bool {
        Kind::ALL.into_iter().any(|kind| self.network_of(kind).is_some())
    }

    pub(super) fn check(&self, duration_s: f64) -> Result<(), String> {
        let networks = self.is_of_networks();
        if [self.run.is_some(), self.kill.is_some(), networks].into_iter().filter(|is| *is).count() != 1 {
            return Err(format!("faults: {:?} needs one of run, kill and network_of_…", self.name));
        }
        if Kind::ALL.into_iter().filter_map(|kind| self.network_of(kind)).any(|share| share.high > 1.0) {
            return Err(format!("faults: {:?} takes more than a share of 1", self.name));
        }
        if self.roam && !networks {
            return Err(format!("faults: roam in {:?} is about networks that fail", self.name));
        }
        let end_s = self.at_s.high + if networks { self.for_s.high } else { 0.0 };
        if end_s > duration_s {
            return Err(format!("faults: {:?} may end at {end_s} s, more than {duration_s}", self.name));
        }
        Ok(())
    }
}

/// What may be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Victim {
    Server,
    Redis,
}
