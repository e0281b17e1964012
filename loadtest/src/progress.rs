//! What is shown while a run goes on: one line that is rewritten on a terminal, a plain line every few seconds elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use crate::watch::Rates;

/// How often a plain line is written.
const PLAIN_EVERY_S: u64 = 5;

/// What the line says.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Now {
    pub(crate) at: Duration,
    pub(crate) of: Duration,
    pub(crate) viewers: u64,
    pub(crate) channels: u64,
    pub(crate) rates: Rates,
    pub(crate) lost: u64,
    pub(crate) failed: u64,
    pub(crate) errors: u64,
    /// Until the sale opens; none if there is no sale, or it is open.
    pub(crate) sale_in: Option<Duration>,
    /// Units available, once it is open.
    pub(crate) available: Option<u32>,
    /// Whose network has failed, and who are not back yet.
    pub(crate) away: u64,
}

impl Now {
    /// The line.
    pub(crate) fn line(&self) -> String {
        let mut line = format!("{:>4.0}/{:.0} s", self.at.as_secs_f64(), self.of.as_secs_f64());
        let Rates { mbps, packets, joins, holds, busy_pct } = self.rates;
        if self.viewers > 0 || packets > 0.0 {
            line += &format!(
                " · {} viewers {mbps:.1} Mb/s {packets:.0} packets/s, {} lost",
                self.viewers, self.lost
            );
        }
        if joins >= 0.5 {
            line += &format!(" · {joins:.0} joins/s");
        }
        if self.channels > 0 {
            line += &format!(" · {} channels", self.channels);
        }
        if let Some(wait) = self.sale_in {
            line += &format!(" · sale in {:.0} s", wait.as_secs_f64().ceil());
        } else if let Some(available) = self.available {
            line += &format!(" · {available} left");
        }
        if self.away > 0 {
            line += &format!(" · {} cut off", self.away);
        }
        if holds >= 0.5 {
            line += &format!(" · {holds:.0} holds/s");
        }
        line + &format!(" · {} failed, {} errors · harness {busy_pct:.0} %", self.failed, self.errors)
    }
}

/// Shows it.
#[derive(Debug)]
pub(crate) struct Progress {
    terminal: bool,
    shown: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), shown: false }
    }

    /// A second has passed.
    pub(crate) fn show(&mut self, now: &Now) {
        let mut out = std::io::stderr().lock();
        // A terminal that is gone is no reason to stop.
        if self.terminal {
            self.shown = true;
            let _ = write!(out, "\r\x1b[2K{}", now.line());
            let _ = out.flush();
        } else if now.at.as_secs().is_multiple_of(PLAIN_EVERY_S) {
            let _ = writeln!(out, "{}", now.line());
        }
    }

    /// Something worth a line of its own.
    pub(crate) fn note(&mut self, text: &str) {
        let clear = if std::mem::take(&mut self.shown) { "\r\x1b[2K" } else { "" };
        let _ = writeln!(std::io::stderr(), "{clear}{text}");
    }

    /// The last line is left standing.
    pub(crate) fn end(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = writeln!(std::io::stderr());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_what_there_is_to_say() {
        let mut now = Now { at: Duration::from_secs(3), of: Duration::from_secs(30), ..Now::default() };
        assert_eq!(now.line(), "   3/30 s · 0 failed, 0 errors · harness 0 %");
        now.viewers = 20;
        now.sale_in = Some(Duration::from_millis(6_500));
        assert!(now.line().contains("20 viewers") && now.line().contains("sale in 7 s"), "{}", now.line());
        now.sale_in = None;
        now.available = Some(4);
        now.rates.holds = 90.0;
        now.away = 7;
        assert!(now.line().contains("4 left · 7 cut off · 90 holds/s"), "{}", now.line());
    }
}
