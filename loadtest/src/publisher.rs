//! The host: publishes a clip over WHIP, round and round, with a thread of its own, so that a herd of viewers does not
//! make it stutter.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use rtc::{
    peer_connection::{
        RTCPeerConnection, event::RTCPeerConnectionEvent, sdp::RTCSessionDescription,
        state::RTCPeerConnectionState,
    },
    rtp,
    rtp_transceiver::RTCRtpSenderId,
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol},
};

use crate::{
    clip::{self, Clip, Codec, LAYERS, Picture, SOUND_SAMPLES, SOUND_TIME},
    http::{self, Call, Client},
    moq::Door,
    peer::{self, AUDIO, Ear, Identity, LayerNames, PeerError, Senders},
    stamp::Stamp,
    viewer::BROKEN_FOR,
};

/// How long connecting may take.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// How long the thread waits for datagrams at most.
const NAP: Duration = Duration::from_millis(10);
/// Keyframes are sent for requests at most this often.
const KEYFRAME_EVERY: Duration = Duration::from_millis(300);
/// A thread that has slept too long goes on from now, rather than to send all it has missed at once.
pub(crate) const MAX_BEHIND: Duration = Duration::from_millis(500);

/// Why there is no broadcast.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The server refused.
    #[error("publishing to {0} was refused: {1}")]
    Refused(String, String),
    /// The connection could not be made.
    #[error("publishing: {0}")]
    Peer(#[from] PeerError),
    /// No address, no socket, no thread.
    #[error("publishing: {0}")]
    Io(#[from] io::Error),
    /// Answered, and then nothing.
    #[error("publishing: no connection within {} s", CONNECT_WITHIN.as_secs())]
    Silent,
}

/// What is to be published, and where.
#[derive(Clone)]
pub(crate) struct Terms {
    pub(crate) client: Client,
    pub(crate) identity: Identity,
    pub(crate) clip: Arc<Clip>,
    pub(crate) whip: String,
    /// What the live is called.
    pub(crate) live: String,
    /// Where to publish by Media over QUIC instead.
    pub(crate) moq: Option<Door>,
    pub(crate) token: Option<String>,
    pub(crate) source: SocketAddr,
    pub(crate) run: u32,
    pub(crate) stamp_every: u32,
}

/// What a publisher tells while it runs.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) packets: AtomicU64,
    /// Bytes of payload of each layer, the largest first.
    pub(crate) layer_bytes: [AtomicU64; LAYERS.len()],
    pub(crate) keyframes_asked: AtomicU64,
    /// The server ended it.
    pub(crate) ended: AtomicBool,
    stop: AtomicBool,
    /// Stop without a word, as a host does whose network fails.
    vanish: AtomicBool,
}

impl Told {
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A running broadcast.
pub(crate) struct Broadcast {
    pub(crate) told: Arc<Told>,
    thread: Option<thread::JoinHandle<()>>,
    /// Where it is ended; some servers give no such place.
    resource: Option<String>,
    terms: Terms,
}

impl Broadcast {
    /// Publishes, and returns when the connection stands.
    pub(crate) async fn start(terms: Terms) -> Result<Self, PublishError> {
        let socket = UdpSocket::bind(terms.source)?;
        let local = socket.local_addr()?;
        let ssrc = 0x4841_0000 | (terms.run & 0xFFF8);
        let (clip, layers) = (&terms.clip, terms.clip.layers.len());
        let (offered, senders) =
            peer::publisher(&terms.identity, local, clip.codec, layers, ssrc, Instant::now())?;
        let call = Call {
            method: "POST",
            url: terms.whip.clone(),
            token: terms.token.clone(),
            content_type: Some("application/sdp"),
            body: offered.sdp,
        };
        let refused = |why: String| PublishError::Refused(terms.whip.clone(), why);
        let answer = terms.client.call(call).await.map_err(|error| refused(error.to_string()))?;
        if !answer.accepts() {
            return Err(refused(answer.complaint()));
        }
        let resource = http::resolve(&answer.url, answer.header("location"));
        let mut connection = offered.connection;
        let description = RTCSessionDescription::answer(answer.text()).map_err(PeerError::from_rtc)?;
        connection.set_remote_description(Instant::now(), description).map_err(PeerError::from_rtc)?;
        let told = Arc::new(Told::default());
        let (up, connected) = tokio::sync::oneshot::channel();
        let sending = Sending {
            connection,
            socket,
            local,
            ear: offered.ear,
            senders,
            clip: terms.clip.clone(),
            run: terms.run,
            stamp_every: terms.stamp_every,
            told: told.clone(),
            up: Some(up),
            connected: false,
            broken_since: None,
            video_sequences: vec![0; layers],
            audio_sequence: 0,
            pictures_sent: 0,
            sounds_sent: 0,
            at: 0,
        };
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(move || sending.run())?;
        let broadcast = Self { told, thread: Some(thread), resource, terms };
        match tokio::time::timeout(CONNECT_WITHIN, connected).await {
            Ok(Ok(())) => Ok(broadcast),
            _ => Err(PublishError::Silent),
        }
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) {
        self.told.stop();
        self.join();
        let Some(url) = self.resource.clone() else { return };
        let call = Call { method: "DELETE", url, token: self.terms.token.clone(), ..Call::default() };
        let _ = self.terms.client.call(call).await;
    }

    /// Falls silent, as when the network fails.
    pub(crate) fn vanish(mut self) {
        self.told.vanish.store(true, Ordering::Relaxed);
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Broadcast {
    fn drop(&mut self) {
        self.told.stop();
        self.join();
    }
}

struct Sending {
    connection: RTCPeerConnection,
    socket: UdpSocket,
    local: SocketAddr,
    ear: Ear,
    senders: Senders,
    clip: Arc<Clip>,
    run: u32,
    stamp_every: u32,
    told: Arc<Told>,
    up: Option<tokio::sync::oneshot::Sender<()>>,
    connected: bool,
    broken_since: Option<Instant>,
    video_sequences: Vec<u16>,
    audio_sequence: u16,
    pictures_sent: u32,
    sounds_sent: u32,
    /// The next picture of the clip.
    at: usize,
}

impl Sending {
    fn run(mut self) {
        let mut buffer = [0; 2_048];
        let mut start = None;
        let mut next_keyframe = Instant::now();
        loop {
            let now = Instant::now();
            if self.told.vanish.load(Ordering::Relaxed) {
                return;
            }
            if self.told.is_stopped() {
                let _ = self.connection.close();
                self.send();
                return;
            }
            let mut due = now + NAP;
            if self.connected {
                let mut begun = *start.get_or_insert(now);
                let picture_time = self.clip.picture_time();
                let picture_at = |sent: u32, begun: Instant| begun + sent * picture_time;
                if now > picture_at(self.pictures_sent, begun) + MAX_BEHIND {
                    begun += now - picture_at(self.pictures_sent, begun);
                    start = Some(begun);
                }
                if std::mem::take(&mut self.ear.listen().keyframe_wanted) {
                    self.told.keyframes_asked.fetch_add(1, Ordering::Relaxed);
                    if now >= next_keyframe {
                        next_keyframe = now + KEYFRAME_EVERY;
                        self.at = self.clip.keyframe_from(self.at);
                    }
                }
                while picture_at(self.pictures_sent, begun) <= now {
                    self.picture(now);
                }
                while begun + self.sounds_sent * SOUND_TIME <= now {
                    self.sound(now);
                }
                due =
                    due.min(picture_at(self.pictures_sent, begun)).min(begun + self.sounds_sent * SOUND_TIME);
            }
            if self.connection.poll_timeout().is_some_and(|at| at <= now) {
                let _ = self.connection.handle_timeout(now);
            }
            self.turn();
            let wait = due.saturating_duration_since(Instant::now()).max(Duration::from_micros(200));
            let _ = self.socket.set_read_timeout(Some(wait));
            while let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                let transport = TransportContext {
                    local_addr: self.local,
                    peer_addr: from,
                    transport_protocol: TransportProtocol::UDP,
                    ecn: None,
                };
                let message = BytesMut::from(&buffer[..length]);
                let message = TaggedBytesMut { now: Instant::now(), transport, message };
                let _ = self.connection.handle_read(message);
                self.turn();
                if Instant::now() >= due {
                    break;
                }
            }
        }
    }

    fn turn(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event else { continue };
            match state {
                RTCPeerConnectionState::Connected => {
                    self.connected = true;
                    self.broken_since = None;
                    if let Some(up) = self.up.take() {
                        let _ = up.send(());
                    }
                }
                RTCPeerConnectionState::Disconnected => self.broken_since = Some(Instant::now()),
                RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed => {
                    self.told.ended.store(true, Ordering::Relaxed);
                }
                _ => {}
            }
        }
        while self.connection.poll_read().is_some() {}
        if self.broken_since.is_some_and(|since| since.elapsed() >= BROKEN_FOR) {
            self.told.ended.store(true, Ordering::Relaxed);
        }
        self.send();
    }

    fn send(&mut self) {
        while let Some(datagram) = self.connection.poll_write() {
            let _ = self.socket.send_to(&datagram.message, datagram.transport.peer_addr);
        }
    }

    /// The next picture, of each layer.
    fn picture(&mut self, now: Instant) {
        let clip = self.clip.clone();
        for (layer, pictures) in clip.layers.iter().enumerate() {
            self.picture_of(layer, clip.codec, &pictures[self.at], now);
        }
        self.pictures_sent += 1;
        self.at = (self.at + 1) % clip.layers[0].len();
    }

    fn picture_of(&mut self, layer: usize, codec: Codec, picture: &Picture, now: Instant) {
        let stamp = self.pictures_sent.is_multiple_of(self.stamp_every).then(|| {
            let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Stamp { run: self.run, sent_us: wall.as_micros() as u64, layer: layer as u8 }
        });
        let mut payloads: Vec<Bytes> = Vec::with_capacity(picture.payloads.len() + 1);
        match codec {
            Codec::H264 => {
                // Parameter sets stay first, so that whoever looks for a keyframe sees one.
                let behind = usize::from(picture.keyframe && picture.payloads.len() > 1);
                payloads.extend_from_slice(&picture.payloads[..behind]);
                payloads.extend(stamp.map(|stamp| Bytes::from(stamp.sei())));
                payloads.extend_from_slice(&picture.payloads[behind..]);
            }
            Codec::Vp8 => {
                let last = picture.payloads.len().saturating_sub(1);
                for (index, piece) in picture.payloads.iter().enumerate() {
                    let descriptor = clip::vp8_descriptor(index == 0, self.pictures_sent as u16 & 0x7FFF);
                    let mut payload = BytesMut::from(&descriptor[..]);
                    payload.extend_from_slice(piece);
                    if let Some(stamp) = stamp.filter(|_| index == last) {
                        payload.extend_from_slice(&stamp.text());
                    }
                    payloads.push(payload.freeze());
                }
            }
        }
        let timestamp = self.pictures_sent.wrapping_mul(self.clip.ticks());
        let (sender, count) = (self.senders.video, payloads.len());
        for (index, payload) in payloads.into_iter().enumerate() {
            let mut header = rtp::Header {
                version: 2,
                marker: index + 1 == count,
                payload_type: self.senders.video_payload_type,
                sequence_number: self.video_sequences[layer],
                timestamp,
                ssrc: self.senders.video_ssrcs[layer],
                ..rtp::Header::default()
            };
            if let Some(LayerNames { mid_id, rid_id, mid }) = &self.senders.names {
                let mid = Bytes::copy_from_slice(mid.as_bytes());
                let rid = Bytes::from_static(LAYERS[layer].as_bytes());
                // Refused are only ids and values that the form of extensions has no room for.
                let _ = header.set_extension(*mid_id, mid).and(header.set_extension(*rid_id, rid));
            }
            self.video_sequences[layer] = self.video_sequences[layer].wrapping_add(1);
            self.told.layer_bytes[layer].fetch_add(payload.len() as u64, Ordering::Relaxed);
            self.write(sender, header, payload, now);
        }
    }

    fn sound(&mut self, now: Instant) {
        let payload = self.clip.sound[self.sounds_sent as usize % self.clip.sound.len()].clone();
        let header = rtp::Header {
            version: 2,
            payload_type: AUDIO,
            sequence_number: self.audio_sequence,
            timestamp: self.sounds_sent.wrapping_mul(SOUND_SAMPLES),
            ssrc: self.senders.audio_ssrc,
            ..rtp::Header::default()
        };
        self.audio_sequence = self.audio_sequence.wrapping_add(1);
        self.sounds_sent += 1;
        self.write(self.senders.audio, header, payload, now);
    }

    fn write(&mut self, sender: RTCRtpSenderId, header: rtp::Header, payload: Bytes, now: Instant) {
        if let Some(mut sender) = self.connection.rtp_sender(sender)
            && sender.write_rtp(now, rtp::Packet { header, payload }).is_ok()
        {
            self.told.packets.fetch_add(1, Ordering::Relaxed);
        }
        self.send();
    }
}
