//! One track of a feed: frames become groups while somebody reads.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use haul_media::{GopCache, Wish};
use haul_model::{Codec, Frame, Kind, TrackInfo};
use moq_net::{Error, Timescale, Timestamp, broadcast, group, track as moq};

use super::KEEP;
use crate::{
    bitstream::{self, Decoder, aac},
    catalog::{self, hex},
    stats::Counters,
    timeline::Timeline,
};

/// Sound makes a group of so many packets: 100 ms. Fewer cost a stream each, more come late all together.
const AUDIO_GROUP_FRAMES: u32 = 5;
/// A group of pictures is ended at this size, and goes on with a keyframe: below what MoQ's implementations take.
const MAX_GROUP_FRAMES: u32 = 4096;
const MAX_GROUP_BYTES: usize = 24 << 20;

pub(super) struct Track {
    pub(super) name: String,
    pub(super) codec: Codec,
    pub(super) producer: moq::Producer,
    /// What a decoder of pictures must know; `None` until a keyframe has said it.
    pub(super) decoder: Option<Decoder>,
    /// What one of sound must.
    pub(super) sound: Option<Sound>,
    /// Nobody reads it.
    pub(super) is_idle: bool,
    /// For who begins to read.
    gop: GopCache,
    timeline: Timeline,
    group: Option<Group>,
    /// Groups that somebody who begins to read may still be given, with their times, the latest last.
    recent: VecDeque<(u64, group::Producer)>,
    /// The next group's number. One follows the other: who has seen one knows which is next, and at the end that none is
    /// missing.
    pub(super) next_group: u64,
    /// The packets so far of a picture that comes in parts, and its timestamp.
    parts: Option<(u32, Vec<Bytes>)>,
    /// A picture was incomplete, or none has come yet: nothing more up to a keyframe.
    broken: bool,
    /// When a keyframe was last wished for.
    wished: Option<Instant>,
}

/// What a decoder of sound must know, as WebCodecs has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sound {
    pub(super) codec: String,
    pub(super) sample_rate_hz: u32,
    pub(super) channels: u32,
    /// In hexadecimal digits.
    pub(super) description: Option<String>,
}

impl Sound {
    /// `None` for pictures, and for parameters that say too little.
    fn of(track: &TrackInfo) -> Option<Self> {
        match track.codec {
            Codec::Opus => Some(Self {
                codec: "opus".to_owned(),
                sample_rate_hz: 48_000,
                channels: 2,
                description: None,
            }),
            Codec::Aac => {
                let digits = track.fmtp.strip_prefix("config=")?;
                let config = aac::Config::parse(&hex(digits)?)?;
                Some(Self {
                    codec: config.codec(),
                    sample_rate_hz: config.sample_rate_hz,
                    channels: config.channels,
                    description: Some(digits.to_owned()),
                })
            }
            _ => None,
        }
    }
}

struct Group {
    producer: group::Producer,
    frames: u32,
    bytes: usize,
    began: Instant,
}

impl Track {
    pub(super) fn new(
        broadcast: &broadcast::Producer,
        what: &TrackInfo,
        name: String,
        first_group: u64,
    ) -> Result<Self, Error> {
        let codec = what.codec;
        let priority = match codec.kind() {
            Kind::Audio => catalog::AUDIO_PRIORITY,
            Kind::Video => catalog::VIDEO_PRIORITY,
        };
        let info =
            moq::Info::default().with_timescale(Timescale::MICRO).with_max_age(KEEP).with_priority(priority);
        Ok(Self {
            producer: broadcast.create_track(name.as_str(), info)?,
            name,
            codec,
            decoder: None,
            sound: Sound::of(what),
            is_idle: true,
            gop: GopCache::default(),
            timeline: Timeline::default(),
            group: None,
            recent: VecDeque::new(),
            next_group: first_group,
            parts: None,
            broken: false,
            wished: None,
        })
    }

    /// Keeps a frame for who begins to read. Returns whether there is news about how the track is decoded.
    pub(super) fn keep(&mut self, frame: &Arc<Frame>) -> bool {
        if self.codec.kind() == Kind::Audio {
            return false;
        }
        self.gop.push(frame.clone());
        // A keyframe may have come in parts: what it says is read when it is whole.
        let frames = self.gop.frames();
        let is_keyframe = frames.first().is_some_and(|first| first.timestamp == frame.timestamp);
        if !frame.ends || !is_keyframe {
            return false;
        }
        let packets: Vec<_> = frames.iter().flat_map(|part| part.packets.iter().cloned()).collect();
        let keyframe = bitstream::depacketize(self.codec, &packets);
        let Some(decoder) = keyframe.and_then(|keyframe| bitstream::decoder(self.codec, &keyframe)) else {
            return false;
        };
        let news = self.decoder.as_ref() != Some(&decoder);
        self.decoder = Some(decoder);
        news
    }

    /// Somebody begins to read: what is there of the GOP begins a group.
    pub(super) fn begin(&mut self, counters: &Counters) {
        self.is_idle = false;
        self.broken = false;
        let frames: Vec<_> = self.gop.frames().to_vec();
        for frame in &frames {
            self.write(frame, counters);
        }
    }

    /// Nobody reads any more. What comes later is not the continuation, so that all before is thrown away.
    pub(super) fn rest(&mut self) {
        self.is_idle = true;
        self.parts = None;
        self.group = None;
        for (_, group) in self.recent.drain(..) {
            let _ = group.abort(Error::Cancel);
        }
    }

    /// The host has gone. What has come of the last group is whole, and nothing follows it: readers get all of it.
    pub(super) fn end(mut self) {
        self.end_group();
        let _ = self.producer.finish();
    }

    /// Appends a frame, beginning a group where it can.
    pub(super) fn write(&mut self, frame: &Arc<Frame>, counters: &Counters) {
        let us = self.timeline.at(self.codec, frame);
        if frame.keyframe && frame.begins {
            self.broken = false;
            self.parts = None;
        }
        if self.broken {
            return;
        }
        let Some(packets) = self.whole(frame) else { return };
        let payload = match packets {
            Ok(packets) => bitstream::depacketize(self.codec, &packets),
            Err(Incomplete) => None,
        };
        let Some(payload) = payload else {
            counters.feed_broken.add(1);
            // A missing packet of sound is a click; a picture without its reference is a smear.
            if self.codec.kind() == Kind::Video {
                self.broken = true;
                self.end_group();
            }
            return;
        };
        // A picture in parts is a keyframe if its first part was; the end of such a one comes here.
        let begins_group = match self.codec.kind() {
            Kind::Audio => self.group.as_ref().is_none_or(|group| group.frames >= AUDIO_GROUP_FRAMES),
            Kind::Video => self.gop_begins_with(frame.timestamp),
        };
        if begins_group {
            self.end_group();
            if let Ok(producer) = self.producer.create_group(self.next_group.into()) {
                self.next_group += 1;
                counters.feed_groups.add(1);
                let oldest = us.saturating_sub(KEEP.as_micros() as u64);
                while self.recent.front().is_some_and(|(us, _)| *us < oldest) {
                    self.recent.pop_front();
                }
                self.recent.push_back((us, producer.clone()));
                self.group = Some(Group { producer, frames: 0, bytes: 0, began: frame.arrived.instant });
            }
        }
        let Some(group) = &mut self.group else { return };
        let bytes = with_time(us, &payload);
        let (Ok(at), size) = (Timestamp::from_micros(us), bytes.len()) else { return };
        group.frames += 1;
        group.bytes += size;
        if group.frames > MAX_GROUP_FRAMES || group.bytes > MAX_GROUP_BYTES {
            self.broken = true;
            self.end_group();
        } else if group.producer.write_frame(at, bytes).is_ok() {
            counters.feed_frames.add(1);
            counters.feed_bytes.add(size as u64);
        } else {
            // The group was given up as old. The next keyframe begins another.
            self.group = None;
        }
    }

    /// Whether a keyframe is wanted now.
    pub(super) fn wish(&mut self, now: Instant, every: Duration) -> Option<Wish> {
        if self.codec.kind() == Kind::Audio {
            return None;
        }
        let age = |at: Instant| now.saturating_duration_since(at);
        let wish = match &self.group {
            None => Wish::Loss,
            Some(group) if age(group.began) >= every => Wish::Join,
            Some(_) => return None,
        };
        if self.wished.is_some_and(|wished| age(wished) < every) {
            return None;
        }
        self.wished = Some(now);
        Some(wish)
    }

    /// Whether the current GOP's keyframe has this timestamp.
    fn gop_begins_with(&self, timestamp: u32) -> bool {
        self.gop.frames().first().is_some_and(|first| first.timestamp == timestamp)
    }

    /// The packets of the access unit that ends with this frame; `None` while it is under way.
    fn whole(&mut self, frame: &Frame) -> Option<Result<Vec<Bytes>, Incomplete>> {
        let before = self.parts.take();
        let packets = match (before, frame.begins) {
            (None, true) => frame.packets.clone(),
            (Some((timestamp, mut packets)), false) if timestamp == frame.timestamp => {
                packets.extend(frame.packets.iter().cloned());
                packets
            }
            _ => return Some(Err(Incomplete)),
        };
        if frame.ends {
            return Some(Ok(packets));
        }
        self.parts = Some((frame.timestamp, packets));
        None
    }

    fn end_group(&mut self) {
        if let Some(group) = self.group.take() {
            let _ = group.producer.finish();
        }
    }
}

/// A part of a picture is missing.
struct Incomplete;

/// A frame of the container: its time as a QUIC variable-length integer (RFC 9000, 16), and its bytes.
fn with_time(us: u64, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(8 + payload.len());
    // The length of eight bytes holds 62 bits, as the wall clock's microseconds do until the year 148,000.
    bytes.put_u64(us | 3 << 62);
    bytes.put_slice(payload);
    bytes.freeze()
}
