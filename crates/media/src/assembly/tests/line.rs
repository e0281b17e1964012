//! A host on a lossy line, and a viewer on a clean one: how long the viewer's picture stands still, as browsers count it.

use super::*;
use crate::emulation::{Link, Screen};

/// A line in virtual time, in steps of a millisecond.
struct Line {
    link: Link,
    assembly: Assembly,
    now: Now,
    began: Instant,
    picture_ms: u64,
    /// What the host has yet to send, and what is on its way, by when.
    outgoing: Vec<(Instant, Packet)>,
    coming: Vec<(Instant, Packet)>,
    /// What was asked for, and when the host hears it.
    asks: Vec<(Instant, u16)>,
    sent: Vec<Packet>,
    keyframe_at: Option<Instant>,
    screen: Screen,
}

/// How much longer than the line itself a picture takes that needs no repair.
const ORDINARY: Duration = Duration::from_millis(40);
/// Packets of a picture, and how far apart they are sent.
const PACKETS: usize = 9;
const PACE: Duration = Duration::from_millis(3);

impl Line {
    /// Pictures so far apart, on a line so long in each direction.
    fn new(picture_ms: u64, delay_ms: u64, loss: f64, seed: u64) -> Self {
        let mut link = Link::new(20_000_000, seed);
        (link.delay, link.loss) = (Duration::from_millis(delay_ms), loss);
        let now = start();
        Self {
            link,
            assembly: Assembly::new(Codec::Vp8, Layer(0)),
            now,
            began: now.instant,
            picture_ms,
            outgoing: Vec::new(),
            coming: Vec::new(),
            asks: Vec::new(),
            sent: Vec::new(),
            keyframe_at: Some(now.instant),
            screen: Screen::default(),
        }
    }

    fn run(&mut self, seconds: u64) -> &mut Self {
        for step in 0..seconds * 1_000 {
            let now = self.now.instant;
            if step.is_multiple_of(self.picture_ms) {
                self.encode();
            }
            let mut sending: Vec<Packet> =
                self.outgoing.extract_if(.., |(at, _)| *at <= now).map(|(_, packet)| packet).collect();
            for (_, sequence) in self.asks.extract_if(.., |(at, _)| *at <= now) {
                sending.extend(self.sent.iter().rev().find(|packet| packet.sequence == sequence).cloned());
            }
            for packet in sending {
                let comes = self.link.send(now, 1_100);
                self.sent.retain(|sent| sent.sequence != packet.sequence);
                self.sent.push(packet.clone());
                self.coming.extend(comes.into_iter().map(|at| (at, packet.clone())));
            }
            for (_, packet) in self.coming.extract_if(.., |(at, _)| *at <= now) {
                self.assembly.push(self.now, packet);
            }
            if self.assembly.poll_timeout().is_some_and(|at| at <= now) {
                self.assembly.handle_timeout(self.now);
            }
            let heard = now + self.link.delay;
            self.asks.extend(self.assembly.poll_nacks(now).into_iter().map(|sequence| (heard, sequence)));
            while let Some(out) = self.assembly.poll() {
                match out {
                    Assembled::Frame(frame) if frame.ends => {
                        let captured = self.began + Duration::from_millis(u64::from(frame.timestamp) / 90);
                        // Browsers leave what is out of the ordinary out of what they hold back for.
                        let is_late = now.duration_since(captured) > self.link.delay + ORDINARY;
                        self.screen.whole(captured, now, is_late);
                    }
                    Assembled::KeyframeNeeded => self.keyframe_at = Some(heard),
                    _ => {}
                }
            }
            self.sent.drain(..self.sent.len().saturating_sub(1_000));
            self.now = self.now.after(Duration::from_millis(1));
        }
        self
    }

    fn encode(&mut self) {
        let now = self.now.instant;
        let keyframe = self.keyframe_at.take_if(|at| *at <= now).is_some();
        let count = if keyframe { 3 * PACKETS } else { PACKETS };
        let timestamp = (now - self.began).as_millis() as u32 * 90;
        let before = self.outgoing.last().map(|(_, packet)| packet.sequence);
        let before = before.or(self
            .sent
            .iter()
            .map(|packet| packet.sequence)
            .reduce(|a, b| if b.wrapping_sub(a) < 1 << 15 { b } else { a }));
        let first = before.map_or(65_000, |before| before.wrapping_add(1));
        for index in 0..count {
            let payload = match (index, keyframe) {
                (0, true) => KEY,
                (0, false) => DELTA,
                _ => MORE,
            };
            let packet = Packet {
                sequence: first.wrapping_add(index as u16),
                timestamp,
                marker: index + 1 == count,
                payload: Bytes::from_static(payload),
            };
            self.outgoing.push((now + PACE * index as u32, packet));
        }
    }
}

#[test]
fn a_host_who_loses_little_on_a_usual_line_is_seen_without_freezes() {
    for (picture_ms, loss, most) in [(83, 0.01, 0.01), (33, 0.01, 0.01), (83, 0.05, 0.1), (33, 0.05, 0.1)] {
        let mut frozen = Duration::ZERO;
        for seed in 0..4 {
            let mut line = Line::new(picture_ms, 75, loss, seed);
            frozen += line.run(60).screen.frozen;
            assert!(line.screen.pictures > (56_000 / picture_ms) as u32, "{}", line.screen.pictures);
        }
        let share = frozen.as_secs_f64() / 240.0;
        println!("{loss} lost, a picture each {picture_ms} ms: frozen for {:.2} %", 100.0 * share);
        assert!(share < most, "{share}");
    }
}
