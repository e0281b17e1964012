//! Where fuzzers come in: each takes any bytes, and may neither panic nor break a promise that is asserted here.
//! The tests below run the corpus through the same doors.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use haul_media::{Broadcast, Delivery, Publication, Relay, RelayEvent, Sink, Source};
use haul_model::{Codec, Frame, Kind, Layer, Now, TrackInfo, UnixMillis};
use rtc::{
    crypto::{RTCCryptoProvider, providers::AwsLcRsProvider},
    rtcp::{self, sender_report::SenderReport},
    rtp,
    shared::marshal::Unmarshal,
};

use crate::{
    feed::Feed,
    hello,
    ingest::Ingest,
    mailbox::{FeedKey, Mailbox},
    outbox::Outbox,
    route::{Route, Via},
    sdp::{Extensions, Format, Offer},
    seal::{Profile, Sealer},
    slab::Slab,
    socket::Socket,
    stats::Counters,
    stun,
    viewer::{Ssrcs, Viewer},
};

/// A datagram from anywhere: what it is, whose it is, and whether it is authentic.
pub fn datagram(data: &[u8]) {
    static PROVIDER: LazyLock<AwsLcRsProvider> = LazyLock::new(AwsLcRsProvider::new);
    let kind = stun::kind(data);
    if let Some(check) = stun::Check::parse(data) {
        assert!(check.ufrag.len() <= data.len());
    }
    if kind == stun::Kind::Stun {
        let _ = (stun::is_success(data), stun::authentic(data, "password", PROVIDER.crypto()));
    }
}

/// A client's first DTLS flight: datagrams, each with its length in front.
pub fn hello(data: &[u8]) {
    let datagrams: Vec<Vec<u8>> = parts(data).map(<[u8]>::to_vec).collect();
    let _ = hello::offered(&datagrams);
}

/// A body of trickled candidates or of an ICE restart.
pub fn fragment(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = crate::sdpfrag::Fragment::parse(text);
}

/// A TCP connection's bytes, as they come: each piece with its length in front.
pub fn framing(data: &[u8]) {
    let mut deframer = crate::framing::Deframer::default();
    for piece in parts(data) {
        deframer.push(piece);
        loop {
            match deframer.next() {
                Ok(Some(datagram)) => assert!(!datagram.is_empty()),
                Ok(None) => break,
                Err(_) => return,
            }
        }
    }
}

/// A publisher's packets, RTP and RTCP, as they come out of SRTP: each with its length in front. The first byte chooses
/// the codec.
pub fn publisher(data: &[u8]) {
    let [codec, data @ ..] = data else { return };
    let codecs = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H265];
    let offer = Offer {
        video: Some(format(codecs[usize::from(*codec) % codecs.len()], 96)),
        audio: Some(format(Codec::Opus, 111)),
        rids: vec!["h".to_owned(), "l".to_owned()],
        nack: true,
        capture_time: Some(3),
        ..Offer::default()
    };
    let Ok(poll) = mio::Poll::new() else { return };
    let Ok(waker) = mio::Waker::new(poll.registry(), mio::Token(0)) else { return };
    let (relay, counters) = (Relay::new(), Counters::default());
    let key = Slab::<()>::new().next_key();
    let mut ingest = Ingest::new(offer, relay, Arc::new(Mailbox::new(waker)), key);
    ingest.connected(start().instant);
    ingest.layer(1, "h");
    ingest.layer(2, "l");
    let mut now = start();
    for packet in parts(data) {
        now = now.after(Duration::from_millis(packet.first().copied().unwrap_or(0).into()));
        for report in rtcp_of(packet) {
            if let Some(report) = report.as_any().downcast_ref::<SenderReport>() {
                ingest.sender_report(now, report);
            }
        }
        if let Ok(packet) = rtp::Packet::unmarshal(&mut Bytes::copy_from_slice(packet)) {
            ingest.packet(now, packet, &counters);
        }
        if ingest.poll_timeout().is_some_and(|due| due <= now.instant) {
            ingest.handle_timeout(now, &counters);
        }
        let _ = (ingest.take_nacks(now), ingest.take_requests(), ingest.take_out_of_order());
    }
}

/// A viewer's RTCP, as it comes out of SRTCP: compound packets, each with its length in front.
pub fn viewer(data: &[u8]) {
    let track = TrackInfo { codec: Codec::Vp8, fmtp: String::new() };
    let broadcast = Broadcast { video: Some(track), audio: None, layer_names: Vec::new() };
    let relay = Relay::new();
    let publication = relay.publish(broadcast.clone(), Arc::new(Nobody));
    let mut now = start();
    for number in 0..3 {
        publish(&publication, now, number);
        now = now.after(Duration::from_millis(33));
    }
    let (snapshot, subscription) = relay.subscribe(Arc::new(Nobody));
    let feed = Feed::new(relay, snapshot, subscription);
    let mut format = format(Codec::Vp8, 96);
    format.rtx = Some(97);
    let offer = Offer { video: Some(format), ..Offer::default() };
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let counters = Arc::new(Counters::default());
    let Ok(socket) = Socket::bind(address) else { return };
    let mut outbox = Outbox::new(&[Arc::new(socket)], counters.clone());
    let to = Route { remote: SocketAddr::from(([127, 0, 0, 1], 9)), via: Via::Socket(0) };
    let ssrcs = Ssrcs { video: 1, rtx: 2, audio: 3 };
    let mut viewer = Viewer::new(now.instant, FeedKey(0), &offer, &broadcast, ssrcs);
    let Ok(sealer) = Sealer::new(Profile::Gcm, &[7; 56], false) else { return };
    viewer.start(now.instant, sealer, &feed);
    now = now.after(Duration::from_millis(10));
    viewer.slice(now.instant, to, &mut outbox, &counters);
    for compound in parts(data) {
        now = now.after(Duration::from_millis(7));
        let _ = viewer.rtcp(now.instant, to, &rtcp_of(compound), &mut outbox, &counters);
        viewer.repeat(now.instant, to, &mut outbox, &counters);
    }
    let _ = viewer.sender_reports(now.instant, &feed);
}

/// A publisher's offer.
pub fn publisher_offer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(offer) = Offer::from_publisher(text) {
        complete(&offer);
    }
}

/// A viewer's offer; the first byte chooses what is sent.
pub fn viewer_offer(data: &[u8]) {
    let [codec, data @ ..] = data else { return };
    let Ok(text) = std::str::from_utf8(data) else { return };
    let codec = Codec::ALL[usize::from(*codec) % Codec::ALL.len()];
    let track = |codec| Some(TrackInfo { codec, fmtp: "profile-level-id=640c1f;useinbandfec=1".to_owned() });
    let broadcast = match codec.kind() {
        Kind::Video => Broadcast { video: track(codec), audio: track(Codec::Opus), layer_names: Vec::new() },
        Kind::Audio => Broadcast { video: None, audio: track(codec), layer_names: Vec::new() },
    };
    if let Ok(offer) = Offer::from_viewer(text, &broadcast) {
        complete(&offer);
    }
}

fn complete(offer: &Offer) {
    assert!(offer.video.is_some() || offer.audio.is_some());
    let kept = offer.sections.iter().filter(|section| section.is_none()).count();
    assert_eq!(kept, usize::from(offer.video.is_some()) + usize::from(offer.audio.is_some()));
    let answer = offer.complete(&offer.sdp, "a=end-of-candidates\r\n");
    let heads = answer.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!(heads, offer.sections.len(), "an answer has the offer's sections");
}

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

fn publish(publication: &Publication, now: Now, number: u32) {
    publication.frame(Arc::new(Frame {
        kind: Kind::Video,
        layer: Layer(0),
        timestamp: number * 2_970,
        arrived: now,
        keyframe: number == 0,
        begins: true,
        ends: true,
        captured: None,
        numbers: None,
        packets: vec![Bytes::from_static(&[0x10; 100]); 4],
    }));
}

fn format(codec: Codec, payload_type: u8) -> Format {
    let extensions = Extensions::default();
    Format { codec, payload_type, fmtp: String::new(), rtx: None, extensions, remb: false }
}

fn rtcp_of(mut packet: &[u8]) -> Vec<Box<dyn rtcp::Packet>> {
    rtcp::packet::unmarshal(&mut packet).unwrap_or_default()
}

/// Pieces, each with its length in front: two bytes, of which the first is taken modulo 8.
fn parts(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let [high, low, rest @ ..] = data else { return None };
        let length = usize::from(u16::from_be_bytes([high % 8, *low])).min(rest.len());
        let (part, rest) = rest.split_at(length);
        data = rest;
        Some(part)
    })
}

/// What time it is does not matter.
fn start() -> Now {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    Now { instant: *START, wall: UnixMillis(1_700_000_000_000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Door = fn(&[u8]);

    #[test]
    fn the_corpus_goes_through() {
        let doors: [(&str, Door); 8] = [
            ("fragment", fragment),
            ("framing", framing),
            ("datagram", datagram),
            ("hello", hello),
            ("publisher", publisher),
            ("viewer", viewer),
            ("publisher_offer", publisher_offer),
            ("viewer_offer", viewer_offer),
        ];
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus");
        for (target, door) in doors {
            let mut files = 0;
            for entry in std::fs::read_dir(format!("{corpus}/{target}")).unwrap() {
                door(&std::fs::read(entry.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files >= 5, "{target} has {files}");
        }
    }
}
