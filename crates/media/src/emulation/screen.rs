//! When a browser shows what came, and when it counts a freeze: libwebrtc's buffer, as far as it matters to who sends.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long a picture's way counts for the usual.
const REMEMBERED: Duration = Duration::from_secs(10);
/// What decoding and showing take.
const SHOWING: Duration = Duration::from_millis(20);
/// How fast what is held back moves towards what it should be (`kDelayMaxChangeMsPerS` of `VCMTiming`).
const MOVES: f64 = 0.1;
/// Pauses between pictures that count for the mean, how many are needed to tell, and how much longer than it a freeze is
/// (`VideoQualityObserver`: three times the mean, and this much longer).
const PAUSES: usize = 30;
const LEAST_PAUSES: usize = 5;
const LONGER: Duration = Duration::from_millis(150);

/// A browser's screen. The browser only receives, so it does not know round trips, and holds nothing back for repairs
/// unless it is told to.
#[derive(Debug, Default)]
pub struct Screen {
    /// How long pictures are to be held back at least: what the server says.
    pub least: Duration,
    /// How long the picture stood still in all.
    pub frozen: Duration,
    /// When that was over, and how long each lasted.
    pub freezes: Vec<(Instant, Duration)>,
    /// Pictures that were shown.
    pub pictures: u32,
    /// When pictures were captured that came without repair, and how long that took.
    ways: VecDeque<(Instant, Duration)>,
    held: Duration,
    shown: Option<Instant>,
    pauses: VecDeque<Duration>,
}

impl Screen {
    /// A picture that was captured then is whole, and those before it were. `repaired`: parts of it had to be asked for.
    pub fn whole(&mut self, captured: Instant, came: Instant, repaired: bool) {
        let way = came.saturating_duration_since(captured);
        if !repaired {
            self.ways.push_back((captured, way));
        }
        while self.ways.front().is_some_and(|(at, _)| captured.duration_since(*at) > REMEMBERED) {
            self.ways.pop_front();
        }
        let mut ways: Vec<Duration> = self.ways.iter().map(|(_, way)| *way).collect();
        ways.sort();
        let shortest = ways.first().copied().unwrap_or(way);
        let usual = ways.get(ways.len() * 95 / 100).copied().unwrap_or(way);
        let planned = captured + shortest + self.held.max(self.least);
        let at = came.max(planned).max(self.shown.unwrap_or(came));
        let pause = self.shown.replace(at).map(|before| at.duration_since(before));
        // Who is late is waited for from now on; what is usual is waited for little by little.
        let (usual, step) = (usual - shortest + SHOWING, pause.unwrap_or_default().mul_f64(MOVES));
        self.held = match self.held > usual {
            true => self.held.saturating_sub(step).max(usual),
            false => (self.held + step + came.saturating_duration_since(planned)).min(usual),
        };
        self.pictures += 1;
        if let Some(pause) = pause {
            self.pause(at, pause);
        }
    }

    /// Forgets the freezes so far.
    pub fn count_anew(&mut self) {
        self.frozen = Duration::ZERO;
        self.freezes.clear();
        self.pictures = 0;
    }

    fn pause(&mut self, at: Instant, pause: Duration) {
        if self.pauses.len() == PAUSES {
            self.pauses.pop_front();
        }
        self.pauses.push_back(pause);
        let mean = self.pauses.iter().sum::<Duration>() / self.pauses.len() as u32;
        if self.pauses.len() >= LEAST_PAUSES && pause >= (3 * mean).max(mean + LONGER) {
            self.frozen += pause;
            self.freezes.push((at, pause));
        }
    }
}
