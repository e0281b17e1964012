//! What is counted while a run goes on: distributions and counters, one set a thread, added up by whoever reads.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

pub(crate) use crate::catalog::Time;
use crate::{catalog::DISTRIBUTIONS, clip::LAYERS, histogram::Histogram};

macro_rules! counters {
    ($($name:ident,)*) => {
        /// The counters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Count { $($name,)* }

        const COUNTS: usize = [$(Count::$name,)*].len();
    };
}

counters! {
    JoinAttempts,
    JoinFailed,
    JoinPictures,
    Packets,
    Bytes,
    Expected,
    Lost,
    FirstLost,
    Repaired,
    Duplicates,
    Nacks,
    Plis,
    Decrypted,
    DecryptErrors,
    Frames,
    Freezes,
    FrozenUs,
    WatchedUs,
    LateUs,
    StampedUs,
    Arrived,
    ConnectedUs,
    ViewersEnded,
    SocketDrops,
    OtherClock,
    ChannelAttempts,
    ChannelFailed,
    ChannelClosed,
    ChannelTooSlow,
    ChannelEvents,
    ChatSent,
    ChatRefused,
    ChatDelivered,
    LikesSent,
    LikesRefused,
    BuyerErrors,
    LayerBytesF,
    LayerUsF,
    LayerBytesH,
    LayerUsH,
    LayerBytesQ,
    LayerUsQ,
    MoqAttempts,
    MoqFailed,
    MoqPictures,
    MoqEnded,
    MoqFrames,
    MoqBytes,
    MoqBroken,
    MoqFreezes,
    MoqFrozenUs,
    MoqWatchedUs,
    MoqLateUs,
    MoqStampedUs,
    MoqConnectedUs,
    DropViewers,
    DropSame,
    DropAnew,
    DropLost,
    DropLeft,
    DropDiscarded,
    DropChannels,
    DropChannelsSame,
    DropChannelsAnew,
    DropChannelsLost,
    DropChannelsLeft,
    ChannelResumed,
    ChannelNotResumed,
    ChannelMissed,
}

impl Count {
    /// Of each layer: bytes, and for how long it was watched.
    pub(crate) const LAYERS: [(Self, Self); LAYERS.len()] = [
        (Self::LayerBytesF, Self::LayerUsF),
        (Self::LayerBytesH, Self::LayerUsH),
        (Self::LayerBytesQ, Self::LayerUsQ),
    ];
}

impl Tally {
    /// Whose network has failed, and who are not back yet.
    pub(crate) fn away(&self) -> u64 {
        use Count as C;
        let back = [
            C::DropSame,
            C::DropAnew,
            C::DropLost,
            C::DropLeft,
            C::DropChannelsSame,
            C::DropChannelsAnew,
            C::DropChannelsLost,
            C::DropChannelsLeft,
        ];
        let gone = self.get(C::DropViewers) + self.get(C::DropChannels);
        gone.saturating_sub(back.into_iter().map(|count| self.get(count)).sum())
    }
}

/// One thread's distributions and counters.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    times: Vec<Histogram>,
    counts: [u64; COUNTS],
}

impl Default for Tally {
    fn default() -> Self {
        Self { times: vec![Histogram::default(); DISTRIBUTIONS.len()], counts: [0; COUNTS] }
    }
}

impl Tally {
    pub(crate) fn record(&mut self, time: Time, value: Duration) {
        self.times[time as usize].record(value);
    }

    pub(crate) fn count(&mut self, count: Count, by: u64) {
        self.counts[count as usize] += by;
    }

    /// For counters that are sums made anew each time.
    pub(crate) fn set(&mut self, count: Count, to: u64) {
        self.counts[count as usize] = to;
    }

    pub(crate) fn get(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    pub(crate) fn time(&self, time: Time) -> &Histogram {
        &self.times[time as usize]
    }

    /// All distributions, in the order of [`DISTRIBUTIONS`].
    pub(crate) fn times(&self) -> &[Histogram] {
        &self.times
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.times.iter_mut().zip(&other.times) {
            mine.add(theirs);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }
}

impl Tally {
    /// One in which everything was counted once: for whoever asks what can be said by tallies at all.
    pub(crate) fn full() -> Self {
        let mut full = Self { counts: [1; COUNTS], ..Self::default() };
        full.times.iter_mut().for_each(|time| time.record(Duration::from_millis(1)));
        full
    }

    /// What has come since `earlier`, a former state of this one.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let times = self.times.iter().zip(&earlier.times).map(|(now, then)| now.since(then)).collect();
        let mut counts = self.counts;
        for (now, then) in counts.iter_mut().zip(earlier.counts) {
            *now = now.saturating_sub(then);
        }
        Self { times, counts }
    }
}

/// A tally that one thread writes and another reads now and then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shared(Arc<Mutex<Tally>>);

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A number that goes up and down, and the most it has been.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    now: AtomicI64,
    most: AtomicI64,
}

impl Gauge {
    pub(crate) fn add(&self, by: i64) {
        let now = self.now.fetch_add(by, Ordering::Relaxed) + by;
        self.most.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.now.load(Ordering::Relaxed)).unwrap_or(0)
    }

    pub(crate) fn most(&self) -> u64 {
        u64::try_from(self.most.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// What all threads move.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// Viewers connected.
    pub(crate) viewers: Gauge,
    /// Channels open.
    pub(crate) channels: Gauge,
    late: Latest,
    timer: Latest,
}

/// The longest of some times since it was last asked for.
#[derive(Debug, Default)]
struct Latest(AtomicU64);

impl Latest {
    fn note(&self, time: Duration) {
        self.0.fetch_max(time.as_micros() as u64, Ordering::Relaxed);
    }

    fn take(&self) -> Duration {
        Duration::from_micros(self.0.swap(0, Ordering::Relaxed))
    }
}

impl Gauges {
    /// The harness was late with what it had planned.
    pub(crate) fn late(&self, by: Duration) {
        self.late.note(by);
    }

    /// A timer of the harness came late.
    pub(crate) fn timer_late(&self, by: Duration) {
        self.timer.note(by);
    }

    /// How late a timer, and something planned, has been at most since this was last asked.
    pub(crate) fn take_late(&self) -> (Duration, Duration) {
        (self.timer.take(), self.late.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up_and_gauges_keep_their_most() {
        let (mut one, mut other) = (Tally::default(), Tally::default());
        one.count(Count::Packets, 2);
        other.count(Count::Packets, 3);
        other.record(Time::Hold, Duration::from_millis(5));
        one.add(&other);
        assert_eq!((one.get(Count::Packets), one.time(Time::Hold).count()), (5, 1));
        let gauge = Gauge::default();
        gauge.add(3);
        gauge.add(-2);
        assert_eq!((gauge.now(), gauge.most()), (1, 3));
        let gauges = Gauges::default();
        [3, 5, 4].into_iter().for_each(|ms| gauges.late(Duration::from_millis(ms)));
        gauges.timer_late(Duration::from_millis(1));
        assert_eq!(gauges.take_late(), (Duration::from_millis(1), Duration::from_millis(5)));
        assert_eq!(gauges.take_late(), (Duration::ZERO, Duration::ZERO), "each second begins anew");
    }
}
