//! Where fuzzers come in: each takes any bytes, and may neither panic nor break a promise that is asserted here.
//! The tests below run the corpus through the same doors.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use haul_model::{Codec, Frame, Kind, Layer, Now, TrackInfo, UnixMillis, media::PictureNumbers};

use crate::{
    Assembled, Assembly, Broadcast, Forward, History, Packet, Relay, Source, assembly::MAX_SPAN, av1, h264,
    h265, vp8, vp9,
};

/// One payload, through every codec's reader.
pub fn payload(data: &[u8]) {
    let numbers = PictureNumbers { picture_id: 0x1234, tl0: Some(7) };
    for codec in Codec::ALL {
        let mut renumbered = data.to_vec();
        crate::renumber(codec, &mut renumbered, numbers);
        assert_eq!(renumbered.len(), data.len());
    }
    let _ = (h264::units(data), h265::units(data), av1::starts_keyframe(data));
    if let Some(read) = vp8::Descriptor::parse(data) {
        let mut renumbered = data.to_vec();
        vp8::renumber(&mut renumbered, numbers);
        let again =
            vp8::Descriptor::parse(&renumbered).map(|again| (again.starts_keyframe, again.numbers.is_some()));
        assert_eq!(again, Some((read.starts_keyframe, read.numbers.is_some())));
    }
    if let Some(read) = vp9::Descriptor::parse(data) {
        let mut renumbered = data.to_vec();
        vp9::renumber(&mut renumbered, numbers);
        let again =
            vp9::Descriptor::parse(&renumbered).map(|again| (again.starts_keyframe, again.numbers.is_some()));
        assert_eq!(again, Some((read.starts_keyframe, read.numbers.is_some())));
    }
}

/// The first byte chooses a codec; then come steps of a stream: what kind, where it stands, and its payload. What comes
/// out goes through a relay, and on to a viewer who has joined in the middle.
pub fn assembly(data: &[u8]) {
    let Some((codec, mut steps)) = data.split_first() else { return };
    let codec = Codec::ALL[usize::from(*codec) % Codec::ALL.len()];
    let mut stream = Stream::of(codec);
    while let [step, place, length, rest @ ..] = steps {
        let (payload, rest) = rest.split_at((usize::from(*length) % 40).min(rest.len()));
        steps = rest;
        stream.step(*step, *place, payload);
    }
    stream.rest();
}

struct Nobody;

impl Source for Nobody {
    fn request_keyframe(&self, _: Layer) {}
    fn replaced(&self) {}
}

struct Stream {
    codec: Codec,
    now: Now,
    assembly: Assembly,
    sequence: u16,
    timestamp: u32,
    /// An access unit has begun and not ended.
    open: Option<u32>,
    relay: Arc<Relay>,
    publication: crate::Publication,
    forward: Forward,
    history: History,
    next_sequence: Option<u64>,
}

impl Stream {
    fn of(codec: Codec) -> Self {
        let relay = Relay::new();
        let track = TrackInfo { codec, fmtp: String::new() };
        let publication = relay.publish(
            Broadcast { video: Some(track), audio: None, layer_names: Vec::new() },
            Arc::new(Nobody),
        );
        Self {
            codec,
            now: start(),
            assembly: Assembly::new(codec, Layer(0)),
            sequence: 65_500,
            timestamp: u32::MAX - 3_000,
            open: None,
            relay,
            publication,
            forward: Forward::new(codec, 0x7FF0, u32::MAX - 100),
            history: History::default(),
            next_sequence: None,
        }
    }

    /// The lower bits say what comes, the upper ones how much time has passed.
    fn step(&mut self, step: u8, place: u8, payload: &[u8]) {
        self.pass(Duration::from_millis([0, 0, 1, 4, 8, 20, 60, 300][usize::from(step >> 5)]));
        let near = place as i8;
        let sequence = match step & 3 {
            // The next packet, or one near it: a hole, a straggler, a double.
            0 | 1 => self.sequence.wrapping_add_signed(near.into()),
            // One far away.
            2 => self.sequence.wrapping_add(u16::from(place) << 8),
            _ => self.sequence,
        };
        let timestamp = match step & 4 {
            0 => self.timestamp,
            _ => self.timestamp.wrapping_add_signed(i32::from(near) * 3_000),
        };
        if step & 3 != 0 {
            self.sequence = sequence.wrapping_add(1);
        }
        self.timestamp = timestamp;
        let payload = Bytes::copy_from_slice(payload);
        self.assembly.push(self.now, Packet { sequence, timestamp, marker: step & 8 != 0, payload });
        self.look();
        if step & 16 != 0 {
            self.join();
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(due) = self.assembly.poll_timeout().filter(|due| *due <= until.instant) {
            // No sooner than a loop comes round.
            let due = due.max(self.now.instant + Duration::from_millis(1));
            self.now = self.now.after(due - self.now.instant);
            self.assembly.handle_timeout(self.now);
            self.look();
        }
        if until.instant > self.now.instant {
            self.now = until;
        }
    }

    fn look(&mut self) {
        let wanted = self.assembly.poll_nacks(self.now.instant);
        assert!(wanted.len() <= crate::nack::MAX_WANTED);
        while let Some(out) = self.assembly.poll() {
            match out {
                Assembled::Frame(frame) => self.frame(frame),
                Assembled::KeyframeNeeded => assert_eq!(self.codec.kind(), Kind::Video),
                Assembled::OutOfOrder => {}
            }
        }
    }

    fn frame(&mut self, frame: Frame) {
        assert!(frame.packets.iter().all(|packet| !packet.is_empty()));
        assert!(frame.packets.len() <= MAX_SPAN + 16);
        if frame.begins {
            self.open = None;
        } else {
            assert_eq!(self.open, Some(frame.timestamp), "a part goes on with what has begun");
            assert!(!frame.keyframe);
        }
        self.open = (!frame.ends).then_some(frame.timestamp);
        let frame = Arc::new(frame);
        self.publication.frame(frame.clone());
        if let Some(timestamp) = self.forward.place(&frame) {
            self.send(&frame, timestamp);
        }
    }

    fn send(&mut self, frame: &Arc<Frame>, timestamp: u32) {
        let outgoing = self.forward.number(frame, timestamp);
        assert!(
            self.next_sequence.is_none_or(|next| next == outgoing.first_sequence),
            "no gap in what is sent"
        );
        self.next_sequence = Some(outgoing.first_sequence + frame.packets.len() as u64);
        for packet in frame.packets.iter().filter(|_| outgoing.numbers.is_some()) {
            let mut packet = packet.to_vec();
            outgoing
                .numbers
                .into_iter()
                .for_each(|numbers| crate::renumber(self.codec, &mut packet, numbers));
        }
        if !frame.packets.is_empty() {
            self.history.push(outgoing, crate::history::Stamp::default(), frame.clone());
            assert!(self.history.find(outgoing.first_sequence as u16).is_some());
        }
    }

    /// Another broadcast, for whoever replays the GOP.
    fn join(&mut self) {
        struct Deaf;
        impl crate::Sink for Deaf {
            fn deliver(&self, _: crate::RelayEvent) -> crate::Delivery {
                crate::Delivery::Taken
            }
        }
        let (snapshot, _subscription) = self.relay.subscribe(Arc::new(Deaf));
        for (_, gop) in &snapshot.gops {
            let frames = gop.frames();
            assert!(frames.first().is_none_or(|first| first.keyframe && first.begins));
            self.forward.restart();
            let places = self.forward.replay(frames);
            assert_eq!(places.len(), frames.len());
            for (frame, timestamp) in frames.iter().zip(places) {
                self.send(frame, timestamp);
            }
        }
    }

    /// Nothing comes any more: the timers must run out.
    fn rest(mut self) {
        for _ in 0..10_000 {
            let Some(due) = self.assembly.poll_timeout() else { return };
            self.pass(due.saturating_duration_since(self.now.instant).max(Duration::from_millis(1)));
        }
        panic!("it never comes to rest");
    }
}

/// There is no other way to make an instant; what it is does not matter.
#[allow(clippy::disallowed_methods)]
fn start() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { instant: *START, wall: UnixMillis(1_700_000_000_000) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_goes_through() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
        for (target, door) in [("payload", super::payload as fn(&[u8])), ("assembly", super::assembly)] {
            let mut files = 0;
            for entry in std::fs::read_dir(format!("{corpus}/{target}")).unwrap() {
                door(&std::fs::read(entry.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files >= 5, "{target} has {files}");
        }
    }

    #[test]
    fn any_noise_goes_through() {
        let mut random = 1_u64;
        for length in 0..600 {
            let noise: Vec<u8> = (0..length)
                .map(|_| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (random >> 33) as u8
                })
                .collect();
            super::payload(&noise);
            super::assembly(&noise);
        }
    }
}
