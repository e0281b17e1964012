//! A viewer without a peer: frames in, packets counted.

use haul_media::{Delivery, Publication, Relay, RelayEvent, Sink, Source};
use haul_model::{Codec, Now, UnixMillis};
use rtc::rtcp::{reception_report::ReceptionReport, transport_feedbacks::transport_layer_nack::NackPair};

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
    /// Where its packets go.
    to: Route,
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
            extensions: Extensions { transport: Some(3), ..Extensions::default() },
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
            to: Route::udp("127.0.0.1:9".parse().unwrap()),
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
        step(self, self.to);
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

#[test]
fn another_profile_of_the_same_codec_strands_a_viewer_as_another_codec_does() {
    let scene = Scene::new(1);
    let can_play = |codec, negotiated: &str, sent: &str| {
        let format = Format {
            codec,
            payload_type: 96,
            fmtp: negotiated.to_owned(),
            rtx: None,
            extensions: Extensions::default(),
            remb: false,
        };
        let offer = Offer { video: Some(format), ..Offer::default() };
        let viewer = Viewer::new(scene.now.instant, FeedKey(0), &offer, &Broadcast::default(), SSRCS);
        let video = Some(TrackInfo { codec, fmtp: sent.to_owned() });
        viewer.can_play(&Broadcast { video, ..Broadcast::default() })
    };
    assert!(can_play(Codec::Vp9, "profile-id=0", ""));
    assert!(!can_play(Codec::Vp9, "profile-id=0", "profile-id=2"));
    let h264 = |profile: &str| format!("packetization-mode=1;profile-level-id={profile}");
    assert!(can_play(Codec::H264, &h264("42e01f"), &h264("640c1f")), "High, which all browsers decode");
    assert!(!can_play(Codec::H264, &h264("640c1f"), &h264("f4001f")), "4:4:4");
}

#[test]
fn what_is_sent_again_without_a_retransmission_stream_is_the_same_to_the_byte() {
    let mut scene = Scene::new(1);
    scene.start();
    let mut sent: Vec<Vec<u8>> = Vec::new();
    scene.slice_after(3);
    sent.extend(scene.outbox.take());
    scene.live(false);
    sent.extend(scene.outbox.take());
    // And padding, which has numbers of the same kind.
    let now = scene.now.instant;
    scene.viewer.transport.probe(now, 3_000_000);
    assert_eq!(scene.sent(|scene, to| scene.viewer.pad(now, to, &mut scene.outbox, &scene.counters)), 15);
    sent.extend(scene.outbox.take());
    scene.live(false);
    sent.extend(scene.outbox.take());
    let word = |packet: &[u8], at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    assert_eq!(sent.len(), 45);
    for (at, packet) in sent.iter().enumerate() {
        assert_eq!((word(packet, 2), word(packet, 12)), (word(&sent[0], 2) + at as u16, 0xBEDE));
        assert_eq!(word(packet, 17), 1 + at as u16, "the transport-wide number");
        assert_eq!(packet[0] & 0x20 != 0, (20..35).contains(&at), "the padding's bit");
    }

    let first = word(&sent[0], 2);
    for (at, packet) in sent.iter().enumerate() {
        // A round trip later each: the budget is not what is looked at.
        scene.now = scene.now.after(Duration::from_millis(100));
        let nack = TransportLayerNack {
            media_ssrc: SSRCS.video,
            nacks: vec![NackPair { packet_id: first + at as u16, lost_packets: 0 }],
            ..TransportLayerNack::default()
        };
        let again = scene.sent(|scene, to| {
            let packets: [Box<dyn rtcp::Packet>; 1] = [Box::new(nack)];
            scene.viewer.rtcp(scene.now.instant, to, &packets, &mut scene.outbox, &scene.counters);
        });
        assert_eq!(again, 1);
        assert_eq!(scene.outbox.take(), std::slice::from_ref(packet), "packet {at}");
    }
    assert_eq!(scene.counters.resend_misses.get(), 0);
}

#[test]
fn nothing_comes_between_the_parts_of_a_picture() {
    let mut scene = Scene::new(1);
    scene.start();
    scene.slice_after(3);
    let mut begun = (*frame(&mut scene.now, &mut scene.timestamp, false)).clone();
    begun.ends = false;
    let now = scene.now.instant;
    scene.sent(|scene, to| {
        scene.viewer.frame(now, to, &Arc::new(begun.clone()), &mut scene.outbox, &scene.counters)
    });
    scene.viewer.transport.probe(now, 3_000_000);
    let pad = |scene: &mut Scene, at: Instant| {
        scene.sent(|scene, to| scene.viewer.pad(at, to, &mut scene.outbox, &scene.counters))
    };
    assert_eq!(pad(&mut scene, now), 0);
    let rest = Arc::new(Frame { begins: false, ends: true, ..begun });
    scene.sent(|scene, to| scene.viewer.frame(now, to, &rest, &mut scene.outbox, &scene.counters));
    assert!(pad(&mut scene, now + Duration::from_millis(60)) > 0);
}

#[test]
fn a_replay_to_a_far_viewer_is_slower_and_ends_where_it_would_take_too_long() {
    // 2 MB: 0.8 s at 20 Mb/s, four at 4.
    let mut scene = Scene::new(200);
    scene.to = Route::udp("192.0.2.1:9".parse().unwrap());
    scene.start();
    let mut sent = 0;
    for _ in 0..95 {
        sent += scene.slice_after(1);
    }
    assert!((200..=260).contains(&sent), "{sent} packets in 92 ms");
    // Nothing is heard of what became of them.
    let unheard = (0..500).map(|_| scene.slice_after(1)).sum::<u64>();
    assert!((150..=250).contains(&unheard), "{unheard} packets in half a second");
    assert_eq!(scene.counters.replays_given_up.get(), 1);
    assert_eq!(scene.live(false), 0, "waits for a keyframe");
    assert_eq!(scene.live(true), 10);

    // What is left of a shorter one goes out at a pace that most networks carry.
    let mut scene = Scene::new(60);
    scene.to = Route::udp("192.0.2.1:9".parse().unwrap());
    scene.start();
    let sent = (0..100).map(|_| scene.slice_after(1)).sum::<u64>();
    let after = (0..400).map(|_| scene.slice_after(1)).sum::<u64>();
    assert_eq!(
        (scene.counters.replays_given_up.get(), sent < 300, after > 150),
        (0, true, true),
        "{sent} {after}"
    );
}

mod network;
