//! The host by Media over QUIC: the same clip and stamps as by WHIP, in groups that begin with keyframes, with a thread
//! of its own. The catalog is in the `hang` format, frames are in its `legacy` container. Nobody can ask for a keyframe.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use moq_net::{Timescale, Timestamp, broadcast, group, origin, track};
use serde_json::{Value, json};
use tokio::{
    sync::oneshot,
    task::JoinSet,
    time::{sleep_until, timeout},
};

use crate::{
    clip::{Clip, Codec, LAYERS, Picture, SOUND_TIME},
    moq::{Door, MoqError},
    network::Network,
    publisher::{CONNECT_WITHIN, MAX_BEHIND, PublishError, Terms, Told},
    quic_socket,
    stamp::Stamp,
};

/// How long a goodbye may take.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);
/// How often it is looked whether to stop, at least.
const NAP: Duration = Duration::from_millis(10);
/// Longer than any run: from a network that has failed for so long nothing comes any more.
const FOR_EVER: Duration = Duration::from_secs(30 * 86_400);

/// A running broadcast.
pub(crate) struct Broadcast {
    pub(crate) told: Arc<Told>,
    network: Network,
    thread: Option<thread::JoinHandle<()>>,
}

impl Broadcast {
    /// Publishes, and returns when the session stands.
    pub(crate) async fn start(terms: Terms, door: Door) -> Result<Self, PublishError> {
        let (told, network) = (Arc::new(Told::default()), Network::default());
        let (up, connected) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let air = Air { terms, door, told: told.clone(), network: network.clone() };
        let run = move || runtime.block_on(air.run(up));
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(run)?;
        let broadcast = Self { told, network, thread: Some(thread) };
        match timeout(CONNECT_WITHIN, connected).await {
            Ok(Ok(Ok(()))) => Ok(broadcast),
            Ok(Ok(Err(error))) => Err(error),
            _ => Err(PublishError::Silent),
        }
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) {
        tokio::task::block_in_place(|| self.join());
    }

    /// Falls silent, as when the network fails.
    pub(crate) fn vanish(mut self) {
        self.network.fail(Instant::now() + FOR_EVER, false);
        self.join();
    }

    fn join(&mut self) {
        self.told.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.join();
    }
}

/// The thread's own.
struct Air {
    terms: Terms,
    door: Door,
    told: Arc<Told>,
    network: Network,
}

impl Air {
    async fn run(self, up: oneshot::Sender<Result<(), PublishError>>) {
        let endpoint = match quic_socket::endpoint(self.terms.source, &self.network) {
            Ok(endpoint) => endpoint,
            Err(error) => return drop(up.send(Err(error.into()))),
        };
        let mut tasks = JoinSet::new();
        let opened = self.open(&endpoint, &mut tasks).await;
        let (session, ours) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let refused = PublishError::Refused(self.door.url(&self.terms.live), error.to_string());
                return drop(up.send(Err(refused)));
            }
        };
        let tracks = match Tracks::open(&ours, &self.terms.clip) {
            Ok(tracks) => tracks,
            Err(error) => return drop(up.send(Err(io::Error::other(error.to_string()).into()))),
        };
        // Nobody waits for it any more: then it is stopped, too.
        let _ = up.send(Ok(()));
        tokio::select! {
            () = self.send(tracks) => {}
            _ = session.closed() => self.told.ended.store(true, Ordering::Relaxed),
        }
        drop((session, ours, tasks));
        endpoint.close(0_u32.into(), b"the end");
        let _ = timeout(GOODBYE_WITHIN, endpoint.wait_idle()).await;
    }

    async fn open(
        &self,
        endpoint: &quinn::Endpoint,
        tasks: &mut JoinSet<()>,
    ) -> Result<(moq_net::Session, origin::Producer), MoqError> {
        let transport = self.door.connect(endpoint, &self.terms.live, self.terms.token.as_deref()).await?;
        let (ours, driver) = origin::Producer::new(origin::Config::default());
        tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
        let client = moq_net::Client::new().with_publisher(&ours);
        let connected = client.connect(Instant::now(), transport).await;
        let (session, driver) = connected.map_err(|error| MoqError::Connect(error.to_string()))?;
        tasks.spawn(async move { drop(moq_net::time::run(driver).await) });
        Ok((session, ours))
    }

    /// The clip, round and round, until it is to stop.
    async fn send(&self, mut tracks: Tracks) {
        let Terms { clip, run, stamp_every, .. } = &self.terms;
        let picture_time = clip.picture_time();
        let (mut begun, mut pictures, mut sounds) = (Instant::now(), 0_u32, 0_u32);
        while !self.told.is_stopped() {
            let now = Instant::now();
            let behind = now.saturating_duration_since(begun + pictures * picture_time);
            if behind > MAX_BEHIND {
                begun += behind;
            }
            while begun + pictures * picture_time <= now {
                let at = pictures as usize % clip.layers[0].len();
                for (layer, all) in clip.layers.iter().enumerate() {
                    let us = now_us();
                    let stamp = pictures.is_multiple_of(*stamp_every);
                    let stamp = stamp.then_some(Stamp { run: *run, sent_us: us, layer: layer as u8 });
                    let frame = stamped(clip.codec, &all[at], stamp);
                    self.told.layer_bytes[layer].fetch_add(frame.len() as u64, Ordering::Relaxed);
                    self.told.packets.fetch_add(1, Ordering::Relaxed);
                    tracks.picture(layer, all[at].keyframe, us, &frame);
                }
                pictures += 1;
            }
            while begun + sounds * SOUND_TIME <= now {
                tracks.sound(now_us(), &clip.sound[sounds as usize % clip.sound.len()]);
                self.told.packets.fetch_add(1, Ordering::Relaxed);
                sounds += 1;
            }
            let next = (begun + pictures * picture_time).min(begun + sounds * SOUND_TIME).min(now + NAP);
            sleep_until(next.into()).await;
        }
    }
}

fn now_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros() as u64
}

/// What is published. Ends when it is dropped.
struct Tracks {
    _broadcast: broadcast::Producer,
    _catalog: track::Producer,
    /// Each layer's track, and its group that goes on.
    video: Vec<(track::Producer, Option<group::Producer>)>,
    audio: track::Producer,
}

impl Tracks {
    fn open(ours: &origin::Producer, clip: &Clip) -> Result<Self, moq_net::Error> {
        let broadcast = ours.create_broadcast("")?;
        let catalog_track = broadcast.create_track("catalog.json", None)?;
        let mut group = catalog_track.append_group()?;
        group.write_frame(Timestamp::now(), catalog(clip).to_string().into_bytes())?;
        group.finish()?;
        let media = |name: &str| {
            broadcast.create_track(name, track::Info::default().with_timescale(Timescale::MICRO))
        };
        let video = (0..clip.layers.len()).map(|layer| Ok((media(&track_of(layer))?, None)));
        let video = video.collect::<Result<_, moq_net::Error>>()?;
        let audio = media("audio")?;
        broadcast.announce(origin::Route::default())?;
        Ok(Self { _broadcast: broadcast, _catalog: catalog_track, video, audio })
    }

    /// What can't be written is not there for those who watch: the session tells that it has ended.
    fn picture(&mut self, layer: usize, keyframe: bool, us: u64, frame: &[u8]) {
        let (track, group) = &mut self.video[layer];
        if keyframe {
            if let Some(former) = group.take() {
                let _ = former.finish();
            }
            *group = track.append_group().ok();
        }
        if let (Some(group), Ok(at)) = (group, Timestamp::from_micros(us)) {
            let _ = group.write_frame(at, sealed(us, frame));
        }
    }

    fn sound(&mut self, us: u64, packet: &[u8]) {
        if let (Ok(mut group), Ok(at)) = (self.audio.append_group(), Timestamp::from_micros(us)) {
            let _ = group.write_frame(at, sealed(us, packet));
            let _ = group.finish();
        }
    }
}

fn track_of(layer: usize) -> String {
    format!("video-{}", LAYERS[layer])
}

/// What the clip consists of.
fn catalog(clip: &Clip) -> Value {
    let video = clip.layers.iter().enumerate().map(|(layer, pictures)| {
        let (codec, width, height) = match clip.codec {
            Codec::H264 => (h264_codec(&pictures[0].whole), 640 >> layer, 360 >> layer),
            Codec::Vp8 => ("vp8".to_owned(), 320, 180),
        };
        let rendition = json!({ "codec": codec, "codedWidth": width, "codedHeight": height,
            "container": { "kind": "legacy" } });
        (track_of(layer), rendition)
    });
    let video: serde_json::Map<_, _> = video.collect();
    let audio = json!({ "codec": "opus", "sampleRate": 48_000, "numberOfChannels": 2,
        "container": { "kind": "legacy" } });
    json!({ "video": { "renditions": video }, "audio": { "renditions": { "audio": audio } } })
}

/// The codec's name as its first parameter set has it, with the sets in the stream (RFC 6381, `avc3`).
fn h264_codec(keyframe: &[u8]) -> String {
    let at = keyframe.windows(4).position(|window| window[..3] == [0, 0, 1] && window[3] & 0x1F == 7);
    let set = at.and_then(|at| keyframe.get(at + 4..at + 7)).unwrap_or(&[0x42, 0xC0, 0x1E]);
    set.iter().fold("avc3.".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

/// A picture as decoders take it, with its stamp: before the first slice in H.264, behind everything in VP8.
fn stamped(codec: Codec, picture: &Picture, stamp: Option<Stamp>) -> Vec<u8> {
    let Some(stamp) = stamp else { return picture.whole.to_vec() };
    match codec {
        Codec::H264 => {
            let (head, slices) = picture.whole.split_at(first_slice(&picture.whole));
            [head, &[0, 0, 0, 1], &stamp.sei(), slices].concat()
        }
        Codec::Vp8 => [&picture.whole, &stamp.text()[..]].concat(),
    }
}

/// Where the first slice begins, with its start code.
fn first_slice(unit: &[u8]) -> usize {
    let is_slice = |window: &[u8]| window[..3] == [0, 0, 1] && matches!(window[3] & 0x1F, 1..=5);
    let at = unit.windows(4).position(is_slice).unwrap_or(0);
    at - usize::from(at > 0 && unit[at - 1] == 0)
}

/// A frame of the container: its time as a QUIC variable-length integer of eight bytes, and what is in it.
fn sealed(us: u64, payload: &[u8]) -> Bytes {
    [&(us & (u64::MAX >> 2) | 3 << 62).to_be_bytes()[..], payload].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 7, sent_us: 9, layer: 1 };

    #[test]
    fn pictures_stay_what_they_were_around_their_stamp() {
        let h264 = Clip::bundled(Codec::H264, false).unwrap();
        for picture in &h264.layers[0][..2] {
            let frame = stamped(Codec::H264, picture, Some(STAMP));
            assert_eq!(Stamp::find(&frame), Some(STAMP));
            assert_eq!(frame.len(), picture.whole.len() + 4 + STAMP.sei().len());
            assert_eq!(stamped(Codec::H264, picture, None), picture.whole);
            let kinds: Vec<u8> = frame
                .windows(4)
                .filter(|window| window[..3] == [0, 0, 1])
                .map(|window| window[3] & 0x1F)
                .collect();
            let truth: &[u8] = if picture.keyframe { &[7, 8, 6, 5] } else { &[6, 1] };
            assert_eq!(kinds, truth, "parameter sets, the stamp, the picture");
        }
        let vp8 = Clip::bundled(Codec::Vp8, false).unwrap();
        let frame = stamped(Codec::Vp8, &vp8.layers[0][0], Some(STAMP));
        assert!(frame.starts_with(&vp8.layers[0][0].whole) && Stamp::find(&frame) == Some(STAMP));
    }

    #[test]
    fn the_catalog_names_every_layer() {
        let catalog = catalog(&Clip::bundled(Codec::H264, true).unwrap());
        let video = &catalog["video"]["renditions"];
        assert_eq!(video.as_object().unwrap().len(), 3);
        assert_eq!(
            (&video["video-f"]["codedHeight"], &video["video-q"]["codedWidth"]),
            (&json!(360), &json!(160))
        );
        assert!(video["video-h"]["codec"].as_str().unwrap().starts_with("avc3.42"), "{video}");
        assert_eq!(sealed(5, b"x")[..], [0xC0, 0, 0, 0, 0, 0, 0, 5, b'x']);
    }
}
