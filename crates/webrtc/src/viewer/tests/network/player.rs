//! Checks what comes out of the network, asks for what is missing, and puts pictures together again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use haul_media::emulation::Screen;

/// Checks what comes out.
#[derive(Default)]
pub(super) struct Player {
    /// The next sequence number of the pictures and of the sound, and the last timestamps.
    pub(super) video: Option<(u16, u32)>,
    pub(super) audio: Option<u16>,
    /// Bytes of each kind, padding with the pictures' resends.
    pub(super) video_bytes: u64,
    pub(super) resent_bytes: u64,
    /// How long packets of sound took at most.
    pub(super) sound_late: Duration,
    pub(super) sound_lost: u64,
    /// Packets of pictures that are not shown yet:
    pub(super) packets: BTreeMap<u64, Picture>,
    /// Extended number of the newest of them.
    pub(super) newest: u64,
    /// What will be asked for again, and when that is at the server.
    pub(super) asks: Vec<(Instant, u64)>,
    /// When the last picture was shown, and how long pictures stood still.
    pub(super) shown: Option<Instant>,
    pub(super) frozen: Duration,
    /// Pictures that were shown, and those of them that were whole only after a second repair.
    pub(super) shown_count: u32,
    pub(super) late_count: u32,
    /// When the newest picture was captured, and its timestamp.
    pub(super) clock: Option<(Instant, u32)>,
    /// What a browser makes of it, which holds pictures back.
    pub(super) screen: Screen,
}

/// A packet of a picture.
pub(super) struct Picture {
    /// It begins a keyframe, it ends a frame.
    pub(super) begins_keyframe: bool,
    pub(super) ends: bool,
    pub(super) captured: Instant,
    pub(super) sent: Instant,
    /// When it came or will.
    pub(super) came: Option<Instant>,
    /// What came is a repair.
    pub(super) repaired: bool,
}

/// How long a player takes to ask for what is missing.
pub(super) const ASKS_AFTER: Duration = Duration::from_millis(10);
/// Pictures are held back for the first repair, a round trip of 150 ms and what noticing takes, and not for longer.
const TOO_LATE: Duration = Duration::from_millis(330);
/// A picture that stands for so long is a freeze.
pub(super) const FREEZE: Duration = Duration::from_millis(190);

impl Player {
    /// When a picture with this timestamp was captured: by the first of all.
    pub(super) fn captured(&mut self, timestamp: u32, now: Instant) -> Instant {
        let (at, before) = *self.clock.get_or_insert((now, timestamp));
        let captured = at + Duration::from_micros(u64::from(timestamp.wrapping_sub(before)) * 100 / 9);
        self.clock = Some((captured, timestamp));
        captured
    }

    /// A packet of a picture comes, or not.
    pub(super) fn picture(&mut self, sequence: u16, packet: Picture, back: Duration) {
        self.newest = match self.newest {
            0 => u64::from(sequence) + (1 << 16),
            newest => newest + u64::from(sequence.wrapping_sub(newest as u16)),
        };
        let came = packet.came;
        self.packets.insert(self.newest, packet);
        if let Some(came) = came {
            // What is missing before it is noticed now.
            let before = self.packets.range(..self.newest).rev();
            let missing = before.map_while(|(sequence, packet)| packet.came.is_none().then_some(*sequence));
            self.asks.extend(missing.map(|missing| (came + ASKS_AFTER + back, missing)));
        }
    }

    /// A repair was sent.
    pub(super) fn repaired(&mut self, sequence: u64, came: Option<Instant>) {
        if let (Some(packet), Some(came)) = (self.packets.get_mut(&sequence), came) {
            packet.repaired |= packet.came.is_none();
            packet.came = Some(packet.came.map_or(came, |before| before.min(came)));
        }
    }

    /// Pictures that are whole are shown, in order or from a keyframe on.
    pub(super) fn show(&mut self, now: Instant) {
        while let Some((end, came)) = self.next(now) {
            self.shown_count += 1;
            self.late_count += u32::from(came.saturating_duration_since(self.packets[&end].sent) > TOO_LATE);
            let mut frame = self.packets.range(..=end).rev();
            let (_, last) = frame.next().unwrap();
            let repaired = last.repaired
                || frame.take_while(|(_, packet)| !packet.ends).any(|(_, packet)| packet.repaired);
            self.screen.whole(last.captured, came, repaired);
            self.packets = self.packets.split_off(&(end + 1));
            self.asks.retain(|(_, sequence)| *sequence > end);
            let stood = self.shown.map_or(Duration::ZERO, |before| came.saturating_duration_since(before));
            if stood > FREEZE {
                self.frozen += stood;
            }
            self.shown = self.shown.max(Some(came));
        }
    }

    /// The first frame that can be shown now: its packets, and when the last of them came.
    fn next(&self, now: Instant) -> Option<(u64, Instant)> {
        let first = *self.packets.keys().next()?;
        let keyframes = self.packets.iter().filter(|(_, packet)| packet.begins_keyframe).map(|(at, _)| *at);
        std::iter::once(first).chain(keyframes).find_map(|start| {
            let end = *self.packets.range(start..).find(|(_, packet)| packet.ends)?.0;
            let came = self.packets.range(start..=end).map(|(_, packet)| packet.came);
            let came = came.collect::<Option<Vec<_>>>()?.into_iter().max()?;
            (came <= now).then_some((end, came))
        })
    }
}
