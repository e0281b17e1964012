//! What is shown while a run goes on: one line that is rewritten on a terminal, a plain line every few seconds elsewhere.

use std::{
    io::{IsTerminal, Write},
    time::Duration,
};

use crate::{bottleneck::BUSY_PCT, net, watch::Rates};

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
    /// The line, on so many columns: what is least important is left out where all has no room.
    pub(crate) fn line(&self, columns: usize) -> String {
        let mut parts = self.parts();
        let line = |parts: &[(u8, String)]| {
            parts.iter().map(|(_, part)| part.as_str()).collect::<Vec<_>>().join(" · ")
        };
        let width = |parts: &[(u8, String)]| line(parts).chars().count();
        while width(&parts) > columns && parts.len() > 1 {
            let ranks = parts.iter().enumerate().map(|(at, (rank, _))| (*rank, at));
            parts.remove(ranks.max().map_or(0, |(_, at)| at));
        }
        line(&parts).chars().take(columns).collect()
    }

    /// What there is to say, each with its rank: what has the highest is missed least.
    fn parts(&self) -> Vec<(u8, String)> {
        let Rates { mbps, packets, joins, holds, busy_pct } = self.rates;
        let mut parts = vec![(0, format!("{:>4.0}/{:.0} s", self.at.as_secs_f64(), self.of.as_secs_f64()))];
        if self.viewers > 0 || packets > 0.0 {
            parts.push((3, format!("{} viewers", self.viewers)));
            parts.push((5, format!("{mbps:.1} Mb/s")));
            parts.push((9, format!("{packets:.0} packets/s")));
            parts.push((if self.lost > 0 { 4 } else { 8 }, format!("{} lost", self.lost)));
        }
        if joins >= 0.5 {
            parts.push((7, format!("{joins:.0} joins/s")));
        }
        if self.channels > 0 {
            parts.push((6, format!("{} channels", self.channels)));
        }
        if let Some(wait) = self.sale_in {
            parts.push((1, format!("sale in {:.0} s", wait.as_secs_f64().ceil())));
        } else if let Some(available) = self.available {
            parts.push((1, format!("{available} left")));
        }
        if self.away > 0 {
            parts.push((4, format!("{} cut off", self.away)));
        }
        if holds >= 0.5 {
            parts.push((5, format!("{holds:.0} holds/s")));
        }
        parts.push((2, format!("{} failed", self.failed)));
        parts.push((2, format!("{} errors", self.errors)));
        parts.push((if busy_pct > BUSY_PCT { 2 } else { 7 }, format!("harness {busy_pct:.0} %")));
        parts
    }
}

/// Columns of a terminal that doesn't say how many it has, and of what is none.
const COLUMNS: usize = 80;
/// Narrower terminals are taken for this wide.
const LEAST_COLUMNS: usize = 20;

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
            // Asked each time, as a window may change; a column is left free, where the cursor stands.
            let columns = net::columns(&out).unwrap_or(COLUMNS).max(LEAST_COLUMNS) - 1;
            let _ = write!(out, "\r\x1b[2K{}", now.line(columns));
            let _ = out.flush();
        } else if now.at.as_secs().is_multiple_of(PLAIN_EVERY_S) {
            let _ = writeln!(out, "{}", now.line(COLUMNS));
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
        assert_eq!(now.line(80), "   3/30 s · 0 failed · 0 errors · harness 0 %");
        now.viewers = 20;
        now.sale_in = Some(Duration::from_millis(6_500));
        assert!(
            now.line(80).contains("20 viewers") && now.line(80).contains("sale in 7 s"),
            "{}",
            now.line(80)
        );
        now.sale_in = None;
        now.available = Some(4);
        now.rates.holds = 90.0;
        now.away = 7;
        assert!(now.line(200).contains("4 left · 7 cut off · 90 holds/s"), "{}", now.line(200));
    }

    #[test]
    fn the_line_fits_and_keeps_what_matters_most() {
        let rates = Rates { mbps: 1_612.3, packets: 251_333.0, joins: 500.0, holds: 2_222.0, busy_pct: 68.0 };
        let mut now = Now {
            at: Duration::from_secs(399),
            of: Duration::from_secs(600),
            viewers: 1_600,
            channels: 10_000,
            rates,
            lost: 12_345,
            failed: 123,
            errors: 45,
            sale_in: Some(Duration::from_secs(2)),
            available: None,
            away: 333,
        };
        assert!(now.line(999).chars().count() > 130, "all of it: {}", now.line(999));
        for columns in 1..140 {
            assert!(now.line(columns).chars().count() <= columns, "{columns}: {}", now.line(columns));
        }
        let line = now.line(80);
        for kept in ["399/600 s", "sale in 2 s", "1600 viewers", "12345 lost", "123 failed", "45 errors"] {
            assert!(line.contains(kept), "{kept}: {line}");
        }
        assert!(now.line(32).contains("sale in 2 s") && !now.line(32).contains("Mb/s"), "{}", now.line(32));
        now.rates.busy_pct = 97.0;
        assert!(now.line(80).contains("harness 97 %"), "a harness at its end is news: {}", now.line(80));
    }
}
