//! A viewer without a peer: frames in, packets counted.

use haul_media::{Delivery, Publication, Relay, RelayEvent, Sink, Source};
use haul_model::{Codec, Now, UnixMillis};
use rtc::rtcp::reception_report::ReceptionReport;

use super::*;
use crate::{
    sdp::{Extensions, Format},
    seal::Profile,
    socket::Socket,
};

struct Nobody;

impl Source for Nobody {
    fn request_keyframe(&self, _: Layer) {}
    fn replaced(&self) {}
}

impl Sink for Nobody {
    fn deliver(&self, _: RelayEvent) -> Delivery {
        Delivery::Taken
    }
}

/// A viewer of a VP8 broadcast whose GOP so far has `frames` frames of ten 1,000-byte packets, 33 ms apart.
struct Scene {
    viewer: Viewer,
    feed: Feed,
    outbox: Outbox,
    counters: Arc<Counters>,
    now: Now,
    timestamp: u32,
    _publication: Publication,
}

const SSRCS: Ssrcs = Ssrcs { video: 1, rtx: 2, audio: 3 };

impl Scene {
    fn new(frames: usize) -> Self {
        let track = TrackInfo { codec: Codec::Vp8, fmtp: String::new() };
        let broadcast = Broadcast { video: Some(track), ..Broadcast::default() };
        let relay = Relay::new();
        let publication = relay.publish(broadcast.clone(), Arc::new(Nobody));
        let (mut now, mut timestamp) = (Now { instant: Instant::now(), wall: UnixMillis(0) }, 0);
        for index in 0..frames {
            publication.frame(frame(&mut now, &mut timestamp, index == 0));
        }
        let (snapshot, subscription) = relay.subscribe(Arc::new(Nobody));
        let format = Format {
            codec: Codec::Vp8,
            payload_type: 96,
            fmtp: String::new(),
            rtx: None,
            extensions: Extensions::default(),
            remb: false,
        };
        let offer = Offer { video: Some(format), ..Offer::default() };
        let counters = Arc::new(Counters::default());
        let socket = Socket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            viewer: Viewer::new(now.instant, FeedKey(0), &offer, &broadcast, SSRCS),
            feed: Feed::new(relay, snapshot, subscription),
            outbox: Outbox::new(&[Arc::new(socket)], counters.clone()),
            counters,
            now,
            timestamp,
            _publication: publication,
        }
    }

    fn start(&mut self) {
        let sealer = Sealer::new(Profile::Gcm, &[7; 56], false).unwrap();
        self.viewer.start(self.now.instant, sealer, &self.feed);
    }

    /// Packets that go out in a slice `ms` later.
    fn slice_after(&mut self, ms: u64) -> u64 {
        self.now = self.now.after(Duration::from_millis(ms));
        self.sent(|scene, to| scene.viewer.slice(scene.now.instant, to, &mut scene.outbox, &scene.counters))
    }

    /// Packets that go out when a live frame comes.
    fn live(&mut self, keyframe: bool) -> u64 {
        let frame = frame(&mut self.now, &mut self.timestamp, keyframe);
        self.sent(|scene, to| {
            scene.viewer.frame(scene.now.instant, to, &frame, &mut scene.outbox, &scene.counters)
        })
    }

    fn sent(&mut self, step: impl FnOnce(&mut Self, Route)) -> u64 {
        let before = self.counters.rtp_packets_out.get();
        step(self, Route::udp("127.0.0.1:9".parse().unwrap()));
        self.counters.rtp_packets_out.get() - before
    }

    fn next_sequence(&self) -> u64 {
        let history = &self.viewer.video.as_ref().unwrap().repair.as_ref().unwrap().history;
        (0..=u16::MAX).filter_map(|sequence| history.find(sequence)).map(|sent| sent.sequence).max().unwrap()
            + 1
    }
}

fn frame(now: &mut Now, timestamp: &mut u32, keyframe: bool) -> Arc<Frame> {
    *now = now.after(Duration::from_millis(33));
    *timestamp += 2_970;
    let payload = Bytes::from(vec![0x10; 1_000]);
    Arc::new(Frame {
        kind: Kind::Video,
        layer: Layer(0),
        timestamp: *timestamp,
        arrived: *now,
        keyframe,
        begins: true,
        ends: true,
        captured: None,
        numbers: None,
        packets: vec![payload; 10],
    })
}

#[test]
fn a_joiners_gop_goes_out_in_slices_with_live_frames_behind_it() {
    let mut scene = Scene::new(12);
    scene.start();
    assert_eq!(scene.slice_after(0), 0, "the client is given a moment");
    assert_eq!(scene.slice_after(3), 50, "five frames of 10,000 bytes fill a slice");
    assert_eq!(scene.slice_after(4), 0, "not due yet");
    assert_eq!(scene.live(false), 0, "waits behind the others");
    assert_eq!(scene.slice_after(1) + scene.slice_after(5) + scene.slice_after(5), 80);
    assert_eq!(scene.live(false), 10, "live from here on");
    assert_eq!(scene.viewer.next_slice, None);
}

#[test]
fn a_live_keyframe_overtakes_what_is_left_and_leaves_no_gap() {
    let mut scene = Scene::new(12);
    scene.start();
    scene.slice_after(3);
    let next = scene.next_sequence();
    assert_eq!(scene.live(true), 10);
    assert_eq!(scene.next_sequence(), next + 10);
    assert_eq!(scene.slice_after(5), 0, "nothing is left");
}

#[test]
fn another_broadcast_forgets_what_is_left_of_the_first() {
    let mut scene = Scene::new(12);
    scene.start();
    scene.slice_after(3);
    scene.viewer.restart(scene.now.instant);
    assert_eq!(scene.slice_after(5), 0);
    assert_eq!(scene.live(false), 0, "waits for a keyframe");
    assert_eq!(scene.live(true), 10);
}

#[test]
fn a_round_trip_is_measured_by_reports_and_held_to_reason() {
    let mut scene = Scene::new(1);
    let sent = scene.now.instant;
    scene.viewer.reports.push_back((77, sent));
    let mut measured = |name, delay, after_ms| {
        let block = ReceptionReport { last_sender_report: name, delay, ..ReceptionReport::default() };
        let report = ReceiverReport { reports: vec![block], ..ReceiverReport::default() };
        scene.viewer.receiver_report(sent + Duration::from_millis(after_ms), &report);
        scene.viewer.round_trip.as_millis()
    };
    assert_eq!(measured(76, 0, 40), ROUND_TRIP.as_millis(), "no report of ours");
    assert_eq!(measured(77, 65_536 / 10, 140), 40, "less the tenth of a second it was held");
    assert_eq!(measured(77, u32::MAX, 140), 10);
    assert_eq!(measured(77, 0, 60_000), 1_000);
}

#[test]
fn who_declined_the_pictures_may_stay_when_they_return() {
    let track = |codec| Some(TrackInfo { codec, fmtp: String::new() });
    let both = Broadcast { video: track(Codec::Vp8), audio: track(Codec::Opus), ..Broadcast::default() };
    let scene = Scene::new(1);
    assert!(!scene.viewer.can_play(&both), "there was no sound to negotiate");
    assert!(scene.viewer.can_play(&Broadcast::default()));
    assert!(!scene.viewer.can_play(&Broadcast { video: track(Codec::H264), ..Broadcast::default() }));
    assert!(
        Viewer::new(scene.now.instant, FeedKey(0), &Offer::default(), &both, SSRCS).can_play(&both),
        "wanted neither, misses neither"
    );
}

mod network;
