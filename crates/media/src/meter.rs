//! What each layer of a broadcast takes: measured, since what an encoder is told and what it does are two things, and
//! the order of layers in an offer says nothing of their size.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use haul_model::{Frame, Kind, Layer};

use crate::{adapt::LayerRate, forward::LAYER_SILENCE};

/// How long one measurement takes.
const WINDOW: Duration = Duration::from_millis(500);
/// How much of the former rate stays.
const SMOOTHING: f64 = 0.75;
/// A keyframe is counted in so many parts, one a window: a layer does not take more because it was just switched to.
const KEYFRAME_WINDOWS: usize = 8;
/// What a packet takes besides its payload: RTP with extensions, the seal.
const OVERHEAD: usize = 12 + 8 + 16;

/// The rates of a broadcast's layers and of its sound.
#[derive(Debug, Default)]
pub struct Meter {
    layers: BTreeMap<Layer, Rate>,
    sound: Rate,
}

#[derive(Debug, Default)]
struct Rate {
    /// When the current window began.
    began: Option<Instant>,
    bytes: usize,
    /// Bytes of keyframes that are still to be counted.
    owed: usize,
    bitrate: Option<f64>,
    seen: Option<Instant>,
}

impl Meter {
    /// Another broadcast.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A frame has come.
    pub fn frame(&mut self, frame: &Frame) {
        let rate = match frame.kind {
            Kind::Audio => &mut self.sound,
            Kind::Video => self.layers.entry(frame.layer).or_default(),
        };
        let is_large = frame.kind == Kind::Video && frame.keyframe;
        rate.add(frame.arrived.instant, frame.size_bytes() + OVERHEAD * frame.packets.len(), is_large);
    }

    /// The layers that are being sent, and what they take: the smallest first.
    pub fn layers(&self, now: Instant) -> Vec<LayerRate> {
        let is_sent =
            |rate: &Rate| rate.seen.is_some_and(|at| now.saturating_duration_since(at) < LAYER_SILENCE);
        let sent = self.layers.iter().filter(|(_, rate)| is_sent(rate));
        let mut layers: Vec<LayerRate> =
            sent.map(|(layer, rate)| LayerRate { layer: *layer, bitrate_bps: rate.bitrate_bps() }).collect();
        layers.sort_by_key(|rate| rate.bitrate_bps);
        layers
    }

    /// What sound takes, in bits a second.
    pub fn sound_bps(&self) -> u64 {
        self.sound.bitrate_bps()
    }
}

impl Rate {
    /// Before there is a measurement, as if what has come were a second's: a keyframe with few frames behind it.
    fn bitrate_bps(&self) -> u64 {
        self.bitrate.map_or((self.bytes + self.owed) as u64 * 8, |bitrate| bitrate as u64)
    }

    fn add(&mut self, now: Instant, bytes: usize, is_keyframe: bool) {
        if self.seen.is_some_and(|at| now.saturating_duration_since(at) >= LAYER_SILENCE) {
            // It comes back after a silence: it is measured anew.
            *self = Self::default();
        }
        let began = *self.began.get_or_insert(now);
        let elapsed = now.saturating_duration_since(began);
        if elapsed >= WINDOW {
            let part = self.owed.div_ceil(KEYFRAME_WINDOWS);
            self.owed -= part;
            let measured = (self.bytes + part) as f64 * 8.0 / elapsed.as_secs_f64();
            let former = self.bitrate.unwrap_or(measured);
            self.bitrate = Some(SMOOTHING * former + (1.0 - SMOOTHING) * measured);
            self.began = Some(now);
            self.bytes = 0;
        }
        match is_keyframe {
            true => self.owed += bytes,
            false => self.bytes += bytes,
        }
        self.seen = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{FrameMaker, start};

    #[test]
    fn a_layer_is_measured_and_forgotten_when_it_falls_silent() {
        let (mut meter, mut make) = (Meter::default(), FrameMaker::at(start()));
        make.payload_bytes = 1_000;
        make.packets = 3;
        for _ in 0..100 {
            meter.frame(&make.delta());
        }
        let rate = meter.layers(make.now.instant)[0];
        let expected = (1_000 + OVERHEAD as u64) * 3 * 8 * 1_000 / 33;
        assert!(rate.bitrate_bps.abs_diff(expected) < expected / 20, "{rate:?}, not {expected}");
        assert_eq!(meter.layers(make.now.instant + LAYER_SILENCE), []);
    }

    #[test]
    fn a_keyframe_makes_a_layer_hardly_larger_and_is_counted_all_the_same() {
        let (mut meter, mut make) = (Meter::default(), FrameMaker::at(start()));
        let rate = |meter: &Meter, make: &FrameMaker| meter.layers(make.now.instant)[0].bitrate_bps as f64;
        make.payload_bytes = 1_000;
        for _ in 0..150 {
            meter.frame(&make.delta());
        }
        let usual = rate(&meter, &make);
        // A second's worth.
        make.payload_bytes = 30_000;
        meter.frame(&make.keyframe());
        make.payload_bytes = 1_000;
        let mut most = 0.0_f64;
        for _ in 0..150 {
            meter.frame(&make.delta());
            most = most.max(rate(&meter, &make));
        }
        assert!((1.05 * usual..1.25 * usual).contains(&most), "{usual}, then {most}");
    }

    #[test]
    fn a_layer_that_comes_back_is_not_taken_for_a_trickle() {
        let (mut meter, mut make) = (Meter::default(), FrameMaker::at(start()));
        make.payload_bytes = 10_000;
        for _ in 0..100 {
            meter.frame(&make.delta());
        }
        make.now = make.now.after(Duration::from_secs(60));
        for _ in 0..60 {
            meter.frame(&make.delta());
        }
        let rate = meter.layers(make.now.instant)[0].bitrate_bps;
        assert!(rate > 1_500_000, "{rate}");
    }
}
