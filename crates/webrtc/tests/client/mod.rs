//! A WebRTC client made of `rtc`'s sans-IO core and a plain socket, so that a test can look at, drop and forge single
//! datagrams. Several of them run in one thread: [`pump`] turns all of them until a condition holds or time is up.

#![allow(dead_code, unreachable_pub)]

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rtc::{
    dtls::extension::extension_use_srtp::SrtpProtectionProfile,
    ice::mdns::MulticastDnsMode,
    interceptor::{Interceptor, Packet, Slot, StreamInfo, TaggedPacket},
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            interceptor_registry::{Registry, register_default_interceptors},
            media_engine::MediaEngine,
            setting_engine::SettingEngineBuilder,
        },
        event::RTCPeerConnectionEvent,
        message::RTCMessage,
        sdp::RTCSessionDescription,
        state::RTCPeerConnectionState,
        transport::{CandidateConfig, CandidateHostConfig, RTCDtlsTransportState, RTCIceCandidate},
    },
    rtcp, rtp,
    rtp_transceiver::{
        RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{
            RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
            RTCRtpEncodingParameters, RtpCodecKind,
        },
    },
    sansio::Protocol,
    shared::{TaggedBytesMut, TransportContext, TransportProtocol, error::Error},
};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The numbers of header extensions in an offer of [`layered`].
const LAYER_MID: u8 = 1;
const LAYER_RID: u8 = 2;

/// A publisher's offer, with layers as OBS has them: named in its own order, and the SSRC of the first one told.
pub fn layered(offer: &str, first: u32) -> String {
    let extensions = "urn:ietf:params:rtp-hdrext:sdes";
    let layers = format!(
        "a=mid:0\r\na=extmap:{LAYER_MID} {extensions}:mid\r\na=extmap:{LAYER_RID} {extensions}:rtp-stream-id\r\n\
         a=rid:0 send\r\na=rid:1 send\r\na=simulcast:send 0;1\r\na=ssrc:{first} cname:obs\r\n"
    );
    let ours = ["rtp-hdrext", "a=rid:", "a=simulcast:"];
    let lines = offer.lines().filter(|line| !ours.iter().any(|ours| line.contains(ours)));
    lines.map(|line| format!("{line}\r\n")).collect::<String>().replacen("a=mid:0\r\n", &layers, 1)
}

/// What a client can do.
#[derive(Clone)]
pub struct Abilities {
    pub video: &'static str,
    pub rtx: bool,
    pub profiles: Vec<SrtpProtectionProfile>,
    /// Its own address.
    pub ip: IpAddr,
}

impl Default for Abilities {
    fn default() -> Self {
        Self { video: "VP8", rtx: true, profiles: Vec::new(), ip: Ipv4Addr::LOCALHOST.into() }
    }
}

impl Abilities {
    pub fn sha1_only() -> Self {
        Self { profiles: vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80], ..Self::default() }
    }
}

/// A connection that carries datagrams, each behind its length (RFC 4571).
pub struct Tcp {
    pub stream: TcpStream,
    inbound: Vec<u8>,
    /// The UDP address that the client believes to talk to.
    believed: SocketAddr,
}

impl Tcp {
    pub fn connect(to: SocketAddr, believed: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).unwrap();
        stream.set_nonblocking(true).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, inbound: Vec::new(), believed }
    }

    pub fn send(&mut self, datagram: &[u8]) {
        let frame = [&(datagram.len() as u16).to_be_bytes(), datagram].concat();
        let mut rest = &frame[..];
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(_) => return,
            }
        }
    }

    fn receive(&mut self, datagram: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        loop {
            if let Some((head, rest)) = self.inbound.split_first_chunk::<2>() {
                let length = usize::from(u16::from_be_bytes(*head));
                if rest.len() >= length {
                    datagram[..length].copy_from_slice(&rest[..length]);
                    self.inbound.drain(..2 + length);
                    return Ok((length, self.believed));
                }
            }
            let mut buffer = [0; 4_096];
            match self.stream.read(&mut buffer)? {
                0 => return Err(io::ErrorKind::WouldBlock.into()),
                length => self.inbound.extend_from_slice(&buffer[..length]),
            }
        }
    }
}

/// Decides whether a datagram is lost.
pub type Loss = Box<dyn FnMut(&[u8]) -> bool + Send>;

pub struct Client {
    pub connection: RTCPeerConnection,
    pub socket: UdpSocket,
    /// What carries its datagrams instead of the socket.
    pub tcp: Option<Tcp>,
    pub local: SocketAddr,
    pub connected: bool,
    pub rtp: Vec<rtp::Packet>,
    ear: Heard,
    pub loss: Option<Loss>,
    /// The same on the way out.
    pub loss_out: Option<Loss>,
    /// Datagrams in whole, decrypted or not.
    pub datagrams: u64,
    pub video: Option<RTCRtpSenderId>,
    pub audio: Option<RTCRtpSenderId>,
    pub video_payload_type: u8,
    sequence: u16,
    audio_sequence: u16,
}

fn feedback(typ: &str, parameter: &str) -> RTCPFeedback {
    RTCPFeedback { typ: typ.into(), parameter: parameter.into() }
}

fn video_codec(name: &str) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: format!("video/{name}"),
        clock_rate: 90_000,
        channels: 0,
        sdp_fmtp_line: if name == "H264" {
            "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".into()
        } else {
            String::new()
        },
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("transport-cc", "")],
    }
}

fn opus() -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "audio/opus".into(),
        clock_rate: 48_000,
        channels: 2,
        sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
        rtcp_feedback: vec![],
    }
}

pub const VIDEO: u8 = 96;
pub const RTX: u8 = 97;
pub const AUDIO: u8 = 111;

impl Client {
    fn new(abilities: &Abilities) -> Self {
        let socket = UdpSocket::bind((abilities.ip, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let local = socket.local_addr().unwrap();
        let mut engine = MediaEngine::default();
        let mut register = |codec, payload_type, kind| {
            engine.register_codec(RTCRtpCodecParameters { rtp_codec: codec, payload_type }, kind).unwrap();
        };
        if !abilities.video.is_empty() {
            register(video_codec(abilities.video), VIDEO, RtpCodecKind::Video);
        }
        if abilities.rtx {
            let rtx = RTCRtpCodec {
                mime_type: "video/rtx".into(),
                clock_rate: 90_000,
                sdp_fmtp_line: format!("apt={VIDEO}"),
                ..RTCRtpCodec::default()
            };
            register(rtx, RTX, RtpCodecKind::Video);
        }
        register(opus(), AUDIO, RtpCodecKind::Audio);
        let ear = Heard::default();
        let registry = register_default_interceptors(Registry::new(), &mut engine)
            .unwrap()
            .with(Slot::Custom(500), Ear::new(ear.clone()));
        let mut settings = SettingEngineBuilder::new()
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            // As browsers have it.
            .with_srtp_replay_protection_window(1_024);
        if !abilities.profiles.is_empty() {
            settings = settings.with_srtp_protection_profiles(abilities.profiles.clone());
        }
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_media_engine(engine)
            .with_setting_engine(settings.build())
            .with_interceptor_registry(registry)
            .build(Instant::now())
            .unwrap();
        let config = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".into(),
                address: local.ip().to_string(),
                port: local.port(),
                component: 1,
                ..CandidateConfig::default()
            },
            ..CandidateHostConfig::default()
        };
        let candidate = RTCIceCandidate::from(&config.new_candidate_host().unwrap()).to_json().unwrap();
        connection.add_local_candidate(candidate).unwrap();
        Self {
            connection,
            socket,
            tcp: None,
            local,
            connected: false,
            rtp: Vec::new(),
            ear: ear.clone(),
            loss: None,
            loss_out: None,
            datagrams: 0,
            video: None,
            audio: None,
            video_payload_type: VIDEO,
            sequence: 65_000,
            audio_sequence: 100,
        }
    }

    /// A client that will send sound, and pictures unless it has no codec for them. Returns it with its offer.
    pub fn publisher(abilities: &Abilities) -> (Self, String) {
        Self::publisher_of(abilities, &[""])
    }

    /// A publisher whose pictures have layers of these names.
    pub fn publisher_of(abilities: &Abilities, rids: &[&str]) -> (Self, String) {
        let mut client = Self::new(abilities);
        let mut track = |kind, codec: RTCRtpCodec| {
            let coding = |rid: &&str| RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(rand::random()),
                    rid: (*rid).into(),
                    ..RTCRtpCodingParameters::default()
                },
                codec: codec.clone(),
                ..RTCRtpEncodingParameters::default()
            };
            let rids = if kind == RtpCodecKind::Video { rids } else { &[""] };
            let codings = rids.iter().map(coding).collect();
            let track = MediaStreamTrack::new("s".into(), format!("{kind}"), "l".into(), kind, codings);
            Some(client.connection.add_track(track).unwrap())
        };
        if !abilities.video.is_empty() {
            client.video = track(RtpCodecKind::Video, video_codec(abilities.video));
        }
        client.audio = track(RtpCodecKind::Audio, opus());
        let offer = client.offer();
        (client, offer)
    }

    /// A client that wants to receive both.
    pub fn viewer(abilities: &Abilities) -> (Self, String) {
        let mut client = Self::new(abilities);
        let receive = || RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            ..RTCRtpTransceiverInit::default()
        };
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            client.connection.add_transceiver_from_kind(kind, Some(receive())).unwrap();
        }
        let offer = client.offer();
        (client, offer)
    }

    /// The sequence number of the next packet of the pictures.
    pub fn next_sequence(&self) -> u16 {
        self.sequence.wrapping_add(1)
    }

    /// Moves to another port without knowing, as behind a NAT that forgets. What comes to the old one is lost.
    pub fn roam(&mut self) {
        self.socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        self.socket.set_nonblocking(true).unwrap();
    }

    /// Begins an ICE restart. Returns the fragment that tells the server of it.
    pub fn restart_ice(&mut self) -> String {
        self.connection.restart_ice();
        let offer = self.connection.create_offer(None).unwrap();
        let ice = offer
            .sdp
            .lines()
            .filter(|line| line.starts_with("a=ice-ufrag:") || line.starts_with("a=ice-pwd:"));
        let ice: Vec<&str> = ice.take(2).collect();
        let fragment = format!("{}\r\n{}\r\n", ice[0], ice[1]);
        self.connection.set_local_description(Instant::now(), offer).unwrap();
        fragment
    }

    /// Takes the server's fragment, which goes into the answer `sdp` of before.
    pub fn ice_restarted(&mut self, sdp: &str, fragment: &str) {
        let of = |key: &str| fragment.lines().find(|line| line.starts_with(key)).unwrap();
        let lines = sdp.lines().map(|line| match line {
            _ if line.starts_with("a=ice-ufrag:") => of("a=ice-ufrag:"),
            _ if line.starts_with("a=ice-pwd:") => of("a=ice-pwd:"),
            _ => line,
        });
        let answer: String = lines.flat_map(|line| [line, "\r\n"]).collect();
        self.answer(&answer);
    }

    fn offer(&mut self) -> String {
        let offer = self.connection.create_offer(None).unwrap();
        self.connection.set_local_description(Instant::now(), offer).unwrap();
        self.connection.local_description().unwrap().sdp
    }

    pub fn answer(&mut self, sdp: &str) {
        let answer = RTCSessionDescription::answer(sdp.to_owned()).unwrap();
        self.connection.set_remote_description(Instant::now(), answer).unwrap();
    }

    /// The same, over TCP: it has no UDP, but believes that it talks to our first address.
    pub fn answer_by_tcp(&mut self, sdp: &str) {
        let candidate = |protocol: &str| -> SocketAddr {
            let words = sdp
                .lines()
                .filter_map(|line| line.strip_prefix("a=candidate:"))
                .map(|line| line.split(' ').collect::<Vec<&str>>());
            let mut fitting = words.filter(|words| {
                words[2] == protocol && words[4].parse::<IpAddr>().unwrap() == self.local.ip()
            });
            let words = fitting.next().unwrap();
            (words[4].parse::<IpAddr>().unwrap(), words[5].parse().unwrap()).into()
        };
        self.tcp = Some(Tcp::connect(candidate("tcp"), candidate("udp")));
        self.answer(sdp);
    }

    fn send_datagram(&mut self, datagram: &[u8], to: SocketAddr) {
        match &mut self.tcp {
            Some(tcp) if tcp.believed == to => tcp.send(datagram),
            Some(_) => {}
            None => drop(self.socket.send_to(datagram, to)),
        }
    }

    /// One turn: takes what has come, sends what is to go.
    pub fn turn(&mut self) {
        let mut buffer = [0; 2_048];
        let now = Instant::now();
        loop {
            let received = match &mut self.tcp {
                Some(tcp) => tcp.receive(&mut buffer),
                None => self.socket.recv_from(&mut buffer),
            };
            match received {
                Ok((length, from)) => {
                    let datagram = &buffer[..length];
                    self.datagrams += 1;
                    if self.loss.as_mut().is_some_and(|loss| loss(datagram)) {
                        continue;
                    }
                    let transport = TransportContext {
                        local_addr: self.local,
                        peer_addr: from,
                        transport_protocol: TransportProtocol::UDP,
                        ecn: None,
                    };
                    let _ = self.connection.handle_read(TaggedBytesMut {
                        now,
                        transport,
                        message: BytesMut::from(datagram),
                    });
                    self.events();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        if self.connection.poll_timeout().is_some_and(|at| at <= now) {
            let _ = self.connection.handle_timeout(now);
        }
        self.events();
        while let Some(message) = self.connection.poll_read() {
            if let RTCMessage::RtpPacket(_, packet) = message.message {
                self.rtp.push(packet);
            }
        }
        while let Some(datagram) = self.connection.poll_write() {
            if self.loss_out.as_mut().is_some_and(|loss| loss(&datagram.message)) {
                continue;
            }
            self.send_datagram(&datagram.message, datagram.transport.peer_addr);
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            if let RTCPeerConnectionEvent::OnConnectionStateChangeEvent(state) = event {
                self.connected = state == RTCPeerConnectionState::Connected;
            }
        }
    }

    /// All RTCP so far.
    pub fn rtcp(&self) -> Vec<Box<dyn rtcp::Packet>> {
        self.ear.lock().unwrap().clone()
    }

    /// Forgets what has come so far, for clients that run long.
    pub fn forget(&mut self) {
        self.rtp.clear();
        self.ear.lock().unwrap().clear();
    }

    /// Whether the other side has said goodbye.
    pub fn told_goodbye(&mut self) -> bool {
        let receiver = self.connection.get_receivers().next();
        let state = match receiver {
            Some(id) => self.connection.rtp_receiver(id).and_then(|r| r.transport().map(|t| t.state())),
            None => {
                let id = self.connection.get_senders().next().unwrap();
                self.connection.rtp_sender(id).and_then(|s| s.transport().map(|t| t.state()))
            }
        };
        state == Some(RTCDtlsTransportState::Closed)
    }

    /// Says goodbye.
    pub fn leave(mut self) {
        let _ = self.connection.close();
        while let Some(datagram) = self.connection.poll_write() {
            self.send_datagram(&datagram.message, datagram.transport.peer_addr);
        }
    }

    fn ssrc(&mut self, sender: RTCRtpSenderId) -> u32 {
        self.ssrcs(sender)[0]
    }

    pub fn ssrcs(&mut self, sender: RTCRtpSenderId) -> Vec<u32> {
        self.connection.rtp_sender(sender).unwrap().track().ssrcs().collect()
    }

    fn send(&mut self, sender: RTCRtpSenderId, header: rtp::Header, payload: Bytes) {
        let packet = rtp::Packet { header, payload };
        self.connection.rtp_sender(sender).unwrap().write_rtp(Instant::now(), packet).unwrap();
    }

    /// Sends VP8 frame `number`: three packets of equal size and a shorter one.
    pub fn send_vp8(&mut self, number: u32, keyframe: bool) {
        let sender = self.video.unwrap();
        let ssrc = self.ssrc(sender);
        for index in 0..4_u8 {
            self.sequence = self.sequence.wrapping_add(1);
            let header = rtp::Header {
                version: 2,
                payload_type: VIDEO,
                sequence_number: self.sequence,
                timestamp: number.wrapping_mul(3_000),
                ssrc,
                marker: index == 3,
                ..rtp::Header::default()
            };
            self.send(sender, header, vp8_payload(number, index, keyframe));
        }
    }

    /// Sends VP8 frame `number` of a layer, which each packet names (as libdatachannel does), `ssrc` its own.
    pub fn send_layer(&mut self, rid: &'static str, ssrc: u32, number: u32, keyframe: bool) {
        let sender = self.video.unwrap();
        for index in 0..4_u8 {
            let mut header = rtp::Header {
                version: 2,
                payload_type: VIDEO,
                sequence_number: (number * 4) as u16 + u16::from(index),
                timestamp: number.wrapping_mul(3_000),
                ssrc,
                marker: index == 3,
                ..rtp::Header::default()
            };
            header.set_extension(LAYER_MID, Bytes::from_static(b"0")).unwrap();
            header.set_extension(LAYER_RID, Bytes::from_static(rid.as_bytes())).unwrap();
            self.send(sender, header, vp8_payload(number, index, keyframe));
        }
    }

    /// Sends VP8 frame `number` as one small packet.
    pub fn send_small_vp8(&mut self, number: u32, keyframe: bool) {
        let sender = self.video.unwrap();
        let ssrc = self.ssrc(sender);
        self.sequence = self.sequence.wrapping_add(1);
        let header = rtp::Header {
            version: 2,
            payload_type: VIDEO,
            sequence_number: self.sequence,
            timestamp: number.wrapping_mul(3_000),
            ssrc,
            marker: true,
            ..rtp::Header::default()
        };
        let mut payload = vp8_payload(number, 0, keyframe);
        payload.truncate(200);
        self.send(sender, header, payload);
    }

    /// Sends one H.264 picture (FU-A, RFC 6184, 5.8) or packet of sound with payloads of these sizes.
    pub fn send_sizes(&mut self, number: u32, sizes: &[usize], keyframe: bool, video: bool) {
        let sender = if video { self.video.unwrap() } else { self.audio.unwrap() };
        let ssrc = self.ssrc(sender);
        for (index, size) in sizes.iter().enumerate() {
            let sequence = if video { &mut self.sequence } else { &mut self.audio_sequence };
            *sequence = sequence.wrapping_add(1);
            let last = index + 1 == sizes.len();
            let header = rtp::Header {
                version: 2,
                payload_type: if video { VIDEO } else { AUDIO },
                sequence_number: *sequence,
                timestamp: number.wrapping_mul(if video { 3_000 } else { 960 }),
                ssrc,
                marker: video && last,
                ..rtp::Header::default()
            };
            let mut payload = vec![number as u8; *size];
            if video {
                // A keyframe's first packet is its parameter sets (STAP-A), the second as long as there is room.
                let first = usize::from(keyframe && sizes.len() > 1);
                let bounds = u8::from(index == first) << 7 | u8::from(last) << 6;
                payload[..2].copy_from_slice(&[0x7C, bounds | if keyframe { 5 } else { 1 }]);
                if index == first && *size > 2 {
                    // The slice begins with the picture's first macroblock, and is of kind I or P.
                    payload[2] = if keyframe { 0x88 } else { 0x9A };
                }
                if index < first && *size > 16 {
                    let room = (size - 9) as u16;
                    payload[..7].copy_from_slice(&[0x78, 0, 4, 0x67, 0x42, 0xE0, 0x1F]);
                    payload[7..9].copy_from_slice(&room.to_be_bytes());
                    payload[9] = 0x68;
                }
            }
            self.send(sender, header, payload.into());
        }
    }

    /// Sends H.264 frame `number` as a single NAL unit, keyframes with their parameter sets.
    pub fn send_h264(&mut self, number: u32, keyframe: bool) {
        let sender = self.video.unwrap();
        let ssrc = self.ssrc(sender);
        let mut units: Vec<Vec<u8>> = Vec::new();
        if keyframe {
            units.extend([vec![0x67, 0x42, 0xE0, 0x1F], vec![0x68, 0xCE, 0x3C, 0x80]]);
        }
        let mut picture = vec![if keyframe { 0x65 } else { 0x41 }, 0x88];
        picture.extend(number.to_be_bytes());
        units.push(picture);
        let last = units.len() - 1;
        for (index, unit) in units.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            let header = rtp::Header {
                version: 2,
                payload_type: VIDEO,
                sequence_number: self.sequence,
                timestamp: number.wrapping_mul(3_000),
                ssrc,
                marker: index == last,
                ..rtp::Header::default()
            };
            self.send(sender, header, unit.into());
        }
    }

    /// Sends a packet of sound.
    pub fn send_opus(&mut self, number: u32) {
        let sender = self.audio.unwrap();
        let ssrc = self.ssrc(sender);
        self.audio_sequence = self.audio_sequence.wrapping_add(1);
        let header = rtp::Header {
            version: 2,
            payload_type: AUDIO,
            sequence_number: self.audio_sequence,
            timestamp: number.wrapping_mul(960),
            ssrc,
            ..rtp::Header::default()
        };
        self.send(sender, header, Bytes::copy_from_slice(&number.to_be_bytes()));
    }

    /// Sends RTCP about whatever this client sends or receives.
    pub fn send_rtcp(&mut self, packets: Vec<Box<dyn rtcp::Packet>>) {
        let receiver = self.connection.get_receivers().next();
        match receiver {
            Some(id) => {
                self.connection.rtp_receiver(id).unwrap().write_rtcp(Instant::now(), packets).unwrap()
            }
            None => {
                let id = self.connection.get_senders().next().unwrap();
                self.connection.rtp_sender(id).unwrap().write_rtcp(Instant::now(), packets).unwrap();
            }
        }
    }

    pub fn video_ssrc(&mut self) -> u32 {
        let sender = self.video.unwrap();
        self.ssrc(sender)
    }

    /// Received packets of one payload type.
    pub fn received(&self, payload_type: u8) -> impl Iterator<Item = &rtp::Packet> {
        self.rtp.iter().filter(move |packet| packet.header.payload_type == payload_type)
    }

    /// Whether anything of VP8 frame `number` has come.
    pub fn has_seen(&self, number: u32) -> bool {
        self.received(VIDEO).any(|packet| packet.payload[7..11] == number.to_be_bytes())
    }

    /// The numbers of VP8 frames of which every packet has come intact, in order.
    pub fn whole_frames(&self) -> Vec<u32> {
        let mut numbers: Vec<(u32, u8)> = Vec::new();
        for packet in self.received(VIDEO) {
            let number = u32::from_be_bytes(packet.payload[7..11].try_into().unwrap());
            let index = packet.payload[11];
            let keyframe = packet.payload[6] == 0;
            assert_eq!(packet.payload[12..], vp8_payload(number, index, keyframe)[12..], "frame {number}");
            assert_eq!(packet.header.marker, index == 3);
            numbers.push((number, index));
        }
        numbers.sort_unstable();
        numbers.dedup();
        let whole = |number: u32| (0..4).all(|index| numbers.binary_search(&(number, index)).is_ok());
        let mut frames: Vec<u32> = numbers.iter().map(|(number, _)| *number).filter(|n| whole(*n)).collect();
        frames.dedup();
        frames
    }

    pub fn last_whole_frame(&self) -> Option<u32> {
        self.whole_frames().last().copied()
    }
}

/// The number of the VP8 frame that a packet is of.
pub fn picture_number(packet: &rtp::Packet) -> u32 {
    u32::from_be_bytes(packet.payload[7..11].try_into().unwrap())
}

/// The sequence number of a protected packet of the pictures; `None` for anything else.
pub fn video_sequence(datagram: &[u8]) -> Option<u16> {
    let video = datagram[0] & 0xC0 == 0x80 && datagram[1] & 0x7F == VIDEO;
    video.then(|| u16::from_be_bytes([datagram[2], datagram[3]]))
}

/// A payload as libwebrtc makes them: descriptor with 15-bit picture id and TL0PICIDX, then our own numbers.
fn vp8_payload(number: u32, index: u8, keyframe: bool) -> Bytes {
    let id = (number as u16 & 0x7FFF | 0x8000).to_be_bytes();
    let start = if index == 0 { 0x90 } else { 0x80 };
    let mut payload = vec![start, 0xE0, id[0], id[1], number as u8, 0x20, u8::from(!keyframe)];
    payload.extend(number.to_be_bytes());
    payload.push(index);
    let length = if index == 3 { 200 } else { 1_100 };
    payload.extend((payload.len()..length).map(|i| (i as u32).wrapping_mul(number + 7) as u8));
    payload.into()
}

/// Turns all clients until `done`, or fails when [`PATIENCE`] is over.
#[track_caller]
pub fn pump(clients: &mut [&mut Client], what: &str, mut done: impl FnMut(&mut [&mut Client]) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for client in clients.iter_mut() {
            client.turn();
        }
        if done(clients) {
            return;
        }
        if Instant::now() >= deadline {
            let seen: Vec<_> =
                clients.iter().map(|c| (c.datagrams, c.rtp.len(), c.last_whole_frame())).collect();
            panic!("waited too long until {what}; clients' datagrams, RTP packets and last frames: {seen:?}");
        }
        // Not a wait for something to happen: only to leave the processor to the shards.
        std::thread::sleep(Duration::from_micros(500));
    }
}

pub type Heard = Shared<Vec<Box<dyn rtcp::Packet>>>;

/// Keeps a copy of all RTCP that comes in.
#[derive(Default)]
pub struct Ear {
    heard: Heard,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Ear {
    /// One that writes into `heard`.
    pub fn new(heard: Heard) -> Self {
        Self { heard, ..Self::default() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Ear {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(packets) = &packet.message.packet {
            self.heard.lock().unwrap().extend(packets.iter().cloned());
        }
        self.reads.push_back(packet);
        Ok(())
    }
    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.reads.pop_front()
    }
    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        self.writes.push_back(packet);
        Ok(())
    }
    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.writes.pop_front()
    }
    fn handle_timeout(&mut self, _: Instant) -> Result<(), Error> {
        Ok(())
    }
    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
}

impl Interceptor for Ear {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

/// Shared between the test and the edge's observer.
pub type Shared<T> = Arc<std::sync::Mutex<T>>;
