//! WebRTC connections of the actors: how offers are made, and what answers say.
//!
//! `rtc`, a sans-IO stack, does ICE, DTLS and RTCP. Its user brings the datagrams.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rtc::{
    crypto::{RTCCryptoProvider, SignatureScheme, providers::AwsLcRsProvider},
    dtls::extension::extension_use_srtp::SrtpProtectionProfile,
    ice::mdns::MulticastDnsMode,
    interceptor::{Interceptor, Packet, Registry, Slot, StreamInfo, TaggedPacket},
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        certificate::RTCCertificate,
        configuration::{
            RTCConfigurationBuilder, interceptor_registry::register_default_interceptors,
            media_engine::MediaEngine, setting_engine::SettingEngineBuilder,
        },
        transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate},
    },
    rtcp::{
        self,
        payload_feedbacks::{
            full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        },
        sender_report::SenderReport,
    },
    rtp_transceiver::{
        RTCRtpSenderId, RTCRtpTransceiverDirection, RTCRtpTransceiverInit,
        rtp_sender::{
            RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
            RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
        },
    },
    sansio::Protocol,
    shared::error::Error,
};

use crate::{
    clip::{Codec, LAYERS},
    keys::{Listening, Material},
};

pub(crate) const AUDIO: u8 = 111;
const H264: u8 = 102;
const H264_RTX: u8 = 103;
const VP8: u8 = 96;
const VP8_RTX: u8 = 97;
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// How often ICE sends its checks while there is no path, and how many at most. `rtc` nominates a path with the check after
/// the one that has found it, so its default of 200 ms would be added to every join; browsers do it at once. Checks go on for
/// as long as a viewer waits for a picture: a server that is slow to answer in a herd still gets to everybody.
const CHECK_EVERY: Duration = Duration::from_millis(20);
const MAX_CHECKS: u16 = 700;

/// What a connection can't be made for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct PeerError(String);

impl PeerError {
    /// `rtc` refused something.
    pub(crate) fn from_rtc(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }

    /// There is no socket to be had.
    pub(crate) fn socket(error: &std::io::Error) -> Self {
        Self(format!("can't open a UDP socket: {error}"))
    }
}

fn failed(error: impl std::fmt::Display) -> PeerError {
    PeerError(error.to_string())
}

/// What all connections of a run share: making a certificate for each would take longer than all the rest of a join.
#[derive(Clone)]
pub(crate) struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: RTCCertificate,
}

impl Identity {
    pub(crate) fn generate() -> Result<Self, PeerError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let params = rcgen::CertificateParams::new(vec!["haul-loadtest".to_owned()]).map_err(failed)?;
        let certificate =
            RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params);
        Ok(Self { provider, certificate: certificate.map_err(failed)? })
    }
}

/// A connection that has made its offer.
pub(crate) struct Offered {
    pub(crate) connection: RTCPeerConnection,
    pub(crate) sdp: String,
    pub(crate) material: Material,
    pub(crate) ear: Ear,
}

fn codec(name: &str, kind: RtpCodecKind) -> RTCRtpCodec {
    let feedback = |typ: &str, parameter: &str| RTCPFeedback { typ: typ.into(), parameter: parameter.into() };
    match kind {
        RtpCodecKind::Audio => RTCRtpCodec {
            mime_type: "audio/opus".into(),
            clock_rate: 48_000,
            channels: 2,
            sdp_fmtp_line: "minptime=10;useinbandfec=1".into(),
            ..RTCRtpCodec::default()
        },
        _ => RTCRtpCodec {
            mime_type: format!("video/{name}"),
            clock_rate: 90_000,
            sdp_fmtp_line: match name {
                "H264" => "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f".into(),
                _ => String::new(),
            },
            rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli"), feedback("transport-cc", "")],
            ..RTCRtpCodec::default()
        },
    }
}

fn register(engine: &mut MediaEngine, codec: RTCRtpCodec, payload_type: u8) -> Result<(), PeerError> {
    let kind = if payload_type == AUDIO { RtpCodecKind::Audio } else { RtpCodecKind::Video };
    engine.register_codec(RTCRtpCodecParameters { rtp_codec: codec, payload_type }, kind).map_err(failed)
}

fn rtx(of: u8) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: "video/rtx".into(),
        clock_rate: 90_000,
        sdp_fmtp_line: format!("apt={of}"),
        ..RTCRtpCodec::default()
    }
}

/// A viewer's connection: it takes either codec, with retransmissions, as a browser does.
pub(crate) fn viewer(identity: &Identity, local: SocketAddr, now: Instant) -> Result<Offered, PeerError> {
    let mut engine = MediaEngine::default();
    register(&mut engine, codec("H264", RtpCodecKind::Video), H264)?;
    register(&mut engine, rtx(H264), H264_RTX)?;
    register(&mut engine, codec("VP8", RtpCodecKind::Video), VP8)?;
    register(&mut engine, rtx(VP8), VP8_RTX)?;
    register(&mut engine, codec("opus", RtpCodecKind::Audio), AUDIO)?;
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let extension = RTCRtpHeaderExtensionCapability { uri: TRANSPORT_CC.to_owned() };
        engine.register_header_extension(extension, kind, None).map_err(failed)?;
    }
    // No interceptors but the ear: packets are counted before `rtc` would see them, and we report ourselves.
    let (mut connection, material, ear) = build(identity, local, engine, Registry::new(), now)?;
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let receive = RTCRtpTransceiverInit {
            direction: RTCRtpTransceiverDirection::Recvonly,
            ..RTCRtpTransceiverInit::default()
        };
        connection.add_transceiver_from_kind(kind, Some(receive)).map_err(failed)?;
    }
    offer(connection, material, ear, now)
}

/// A publisher's senders.
pub(crate) struct Senders {
    pub(crate) video: RTCRtpSenderId,
    pub(crate) audio: RTCRtpSenderId,
    /// Of each layer.
    pub(crate) video_ssrcs: Vec<u32>,
    pub(crate) audio_ssrc: u32,
    pub(crate) video_payload_type: u8,
    /// How packets say of which layer they are; absent where there is only one.
    pub(crate) names: Option<LayerNames>,
}

/// The header extensions by which a simulcast's packets are told apart (RFC 8852).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LayerNames {
    pub(crate) mid_id: u8,
    pub(crate) rid_id: u8,
    pub(crate) mid: String,
}

impl LayerNames {
    /// As our own offer has it.
    fn read(offer: &str) -> Option<Self> {
        let video = &offer[offer.find("m=video")?..];
        let lines = || video.lines().map(str::trim_end);
        let extension = |uri: &str| {
            let line = lines().find(|line| line.starts_with("a=extmap:") && line.ends_with(uri))?;
            line.strip_prefix("a=extmap:")?.split([' ', '/']).next()?.parse().ok()
        };
        Some(Self {
            mid_id: extension(":sdes:mid")?,
            rid_id: extension(":sdes:rtp-stream-id")?,
            mid: lines().find_map(|line| line.strip_prefix("a=mid:"))?.to_owned(),
        })
    }
}

/// A publisher's connection, with sender reports and answers to NACKs. More than one layer is a simulcast. SSRCs are `ssrc`
/// and those after it.
pub(crate) fn publisher(
    identity: &Identity,
    local: SocketAddr,
    clip: Codec,
    layers: usize,
    ssrc: u32,
    now: Instant,
) -> Result<(Offered, Senders), PeerError> {
    let (name, payload_type) = match clip {
        Codec::H264 => ("H264", H264),
        Codec::Vp8 => ("VP8", VP8),
    };
    let mut engine = MediaEngine::default();
    register(&mut engine, codec(name, RtpCodecKind::Video), payload_type)?;
    register(&mut engine, codec("opus", RtpCodecKind::Audio), AUDIO)?;
    let registry = register_default_interceptors(Registry::new(), &mut engine).map_err(failed)?;
    let (mut connection, material, ear) = build(identity, local, engine, registry, now)?;
    let (audio_ssrc, video_ssrcs): (u32, Vec<u32>) =
        (ssrc, (1..=layers as u32).map(|layer| ssrc + layer).collect());
    let mut track = |kind, codec: RTCRtpCodec, ssrcs: &[u32]| {
        let encoding = |(at, ssrc): (usize, &u32)| {
            let rid = if ssrcs.len() > 1 { LAYERS[at] } else { "" };
            let coding = RTCRtpCodingParameters {
                ssrc: Some(*ssrc),
                rid: rid.into(),
                ..RTCRtpCodingParameters::default()
            };
            RTCRtpEncodingParameters {
                rtp_coding_parameters: coding,
                codec: codec.clone(),
                ..RTCRtpEncodingParameters::default()
            }
        };
        let encodings = ssrcs.iter().enumerate().map(encoding).collect();
        let (stream, label) = ("haul-loadtest".to_owned(), format!("{kind}"));
        let track = MediaStreamTrack::new(stream, label.clone(), label, kind, encodings);
        connection.add_track(track).map_err(failed)
    };
    let mut senders = Senders {
        video: track(RtpCodecKind::Video, codec(name, RtpCodecKind::Video), &video_ssrcs)?,
        audio: track(RtpCodecKind::Audio, codec("opus", RtpCodecKind::Audio), &[audio_ssrc])?,
        video_ssrcs,
        audio_ssrc,
        video_payload_type: payload_type,
        names: None,
    };
    let offered = offer(connection, material, ear, now)?;
    if layers > 1 {
        let names = LayerNames::read(&offered.sdp);
        senders.names =
            Some(names.ok_or_else(|| failed("the offer does not say how layers are told apart"))?);
    }
    Ok((offered, senders))
}

fn build(
    identity: &Identity,
    local: SocketAddr,
    engine: MediaEngine,
    registry: Registry,
    now: Instant,
) -> Result<(RTCPeerConnection, Material, Ear), PeerError> {
    let ear = Ear::default();
    // Nearest to the wire: before the first of `rtc`'s own, which begin at 1000.
    let registry = registry.with(Slot::Custom(500), Listener { ear: ear.clone(), ..Listener::default() });
    let (provider, material) = Listening::to(identity.provider.clone());
    let settings = SettingEngineBuilder::new()
        .with_crypto_provider(provider)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_ice_connection_attempts(Some(CHECK_EVERY), Some(MAX_CHECKS))
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        ])
        .build();
    let configuration =
        RTCConfigurationBuilder::new().with_certificates(vec![identity.certificate.clone()]).build();
    let mut connection = RTCPeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_interceptor_registry(registry)
        .build(now)
        .map_err(failed)?;
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: local.ip().to_string(),
        port: local.port(),
        component: 1,
        ..CandidateConfig::default()
    };
    let candidate = CandidateHostConfig { base_config, ..CandidateHostConfig::default() };
    let candidate = candidate.new_candidate_host().map_err(failed)?;
    let candidate = RTCIceCandidate::from(&candidate).to_json().map_err(failed)?;
    connection.add_local_candidate(candidate).map_err(failed)?;
    Ok((connection, material, ear))
}

fn offer(
    mut connection: RTCPeerConnection,
    material: Material,
    ear: Ear,
    now: Instant,
) -> Result<Offered, PeerError> {
    let offer = connection.create_offer(None).map_err(failed)?;
    connection.set_local_description(now, offer).map_err(failed)?;
    let sdp = connection.local_description().map(|description| description.sdp);
    let sdp = sdp.ok_or_else(|| failed("there is no local description"))?;
    Ok(Offered { connection, sdp, material, ear })
}

/// What an answer to a viewer says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// In the server's order: some choose one codec, others list all they know and send what the publisher does.
    pub(crate) pictures: Vec<Picture>,
    /// The payload type of sound.
    pub(crate) audio: Option<u8>,
    /// The id of the header extension that numbers packets of all streams, if there shall be feedback about them.
    pub(crate) transport_cc: Option<u8>,
    /// Whether the server begins the DTLS handshake, and so is its client.
    pub(crate) server_connects: bool,
}

/// The picture that was agreed upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Picture {
    pub(crate) codec: Codec,
    pub(crate) payload_type: u8,
    pub(crate) rtx: Option<u8>,
    /// Whether lost packets may be asked for.
    pub(crate) nack: bool,
}

impl Agreed {
    /// Reads an answer (RFC 8866). What is not understood is skipped.
    pub(crate) fn read(sdp: &str) -> Self {
        let mut agreed = Self::default();
        let (mut kind, mut first) = ("", None);
        let mut names: Vec<(u8, Codec)> = Vec::new();
        let mut repairs: Vec<(u8, u8)> = Vec::new();
        let (mut nacks, mut feedback) = (false, false);
        let mut wanted: Vec<u8> = Vec::new();
        for line in sdp.lines().map(str::trim_end) {
            if let Some(rest) = line.strip_prefix("m=") {
                let mut words = rest.split(' ');
                kind = words.next().unwrap_or_default();
                let open = words.next() != Some("0");
                let types: Vec<u8> = words.skip(1).filter_map(|word| word.parse().ok()).collect();
                first = types.first().copied().filter(|_| open);
                match kind {
                    "audio" => agreed.audio = agreed.audio.or(first),
                    "video" if open && wanted.is_empty() => wanted = types,
                    _ => {}
                }
            } else if line == "a=setup:active" {
                agreed.server_connects = true;
            } else if kind == "video" && first.is_some() {
                let about = |key: &str| {
                    let (number, rest) = line.strip_prefix(key)?.split_once(' ')?;
                    Some((number, rest))
                };
                if let Some((number, rest)) = about("a=rtpmap:")
                    && let Ok(number) = number.parse()
                {
                    match rest.split('/').next().unwrap_or_default().to_ascii_uppercase().as_str() {
                        "H264" => names.push((number, Codec::H264)),
                        "VP8" => names.push((number, Codec::Vp8)),
                        _ => {}
                    }
                } else if let Some((number, rest)) = about("a=fmtp:")
                    && let (Ok(number), Some(of)) = (number.parse(), rest.trim().strip_prefix("apt="))
                    && let Ok(of) = of.parse()
                {
                    repairs.push((number, of));
                } else if let Some((_, rest)) = about("a=rtcp-fb:") {
                    nacks |= rest == "nack";
                    feedback |= rest == "transport-cc";
                } else if let Some((number, rest)) = about("a=extmap:")
                    && rest.starts_with(TRANSPORT_CC)
                {
                    agreed.transport_cc = number.split('/').next().and_then(|number| number.parse().ok());
                }
            }
        }
        if !feedback {
            agreed.transport_cc = None;
        }
        let picture = |payload_type: u8| {
            let codec = names.iter().find(|(number, _)| *number == payload_type)?.1;
            let rtx = repairs.iter().find(|(_, of)| *of == payload_type).map(|(number, _)| *number);
            Some(Picture { codec, payload_type, rtx, nack: nacks })
        };
        agreed.pictures = wanted.into_iter().filter_map(picture).collect();
        agreed
    }
}

/// What came in of RTCP since it was last looked at.
#[derive(Default)]
pub(crate) struct Heard {
    /// Of each sender's last report: SSRC, the middle of its NTP time, and when it came.
    pub(crate) reports: Vec<(u32, u32, Instant)>,
    /// A keyframe was asked for.
    pub(crate) keyframe_wanted: bool,
}

/// The reading end. A lock only because interceptors must be `Sync`: both ends are on one thread.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<Heard>>);

impl Ear {
    pub(crate) fn listen(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An interceptor that listens to RTCP, of which `rtc` hands its user only a part.
#[derive(Default)]
struct Listener {
    ear: Ear,
    reads: VecDeque<TaggedPacket>,
    writes: VecDeque<TaggedPacket>,
}

impl Listener {
    fn hear(&self, packet: &dyn rtcp::Packet, now: Instant) {
        let packet = packet.as_any();
        if let Some(report) = packet.downcast_ref::<SenderReport>() {
            let mut heard = self.ear.listen();
            heard.reports.retain(|(ssrc, ..)| *ssrc != report.ssrc);
            // A viewer has two streams; whoever sends reports of many more is not listened to.
            if heard.reports.len() < 8 {
                heard.reports.push((report.ssrc, (report.ntp_time >> 16) as u32, now));
            }
        } else if packet.is::<PictureLossIndication>() || packet.is::<FullIntraRequest>() {
            self.ear.listen().keyframe_wanted = true;
        }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Listener {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtcp(compound) = &packet.message.packet {
            for one in compound {
                self.hear(&**one, packet.now);
            }
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

impl Interceptor for Listener {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=setup:passive\r\n\
            m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\na=rtpmap:102 H264/90000\r\na=rtpmap:103 rtx/90000\r\n\
            a=fmtp:103 apt=102\r\na=rtcp-fb:102 nack\r\na=rtcp-fb:102 transport-cc\r\n";
        let extension = format!("a=extmap:3 {TRANSPORT_CC}\r\n");
        let agreed = Agreed::read(&format!("{answer}{extension}"));
        let video = Picture { codec: Codec::H264, payload_type: 102, rtx: Some(103), nack: true };
        let truth =
            Agreed { pictures: vec![video], audio: Some(111), transport_cc: Some(3), server_connects: false };
        assert_eq!(agreed, truth);
        assert_eq!(Agreed::read(answer).transport_cc, None);
        let rejected = Agreed::read("m=video 0 UDP/TLS/RTP/SAVPF 102\r\na=rtpmap:102 H264/90000\r\n");
        assert_eq!(rejected, Agreed::default());
        let all =
            "m=video 9 UDP/TLS/RTP/SAVPF 102 96\r\na=rtpmap:102 H264/90000\r\na=rtpmap:96 VP8/90000\r\n";
        let codecs = Agreed::read(all).pictures.into_iter().map(|picture| picture.codec);
        assert_eq!(codecs.collect::<Vec<_>>(), [Codec::H264, Codec::Vp8], "the server sends either");
    }

    #[test]
    fn a_viewers_offer_takes_both_codecs_and_sound() {
        let identity = Identity::generate().unwrap();
        let offered = viewer(&identity, "127.0.0.1:5000".parse().unwrap(), Instant::now()).unwrap();
        for line in ["m=video", "m=audio", "H264/90000", "VP8/90000", "opus/48000/2", "a=recvonly", "apt=102"]
        {
            assert!(offered.sdp.contains(line), "{line} is not in\n{}", offered.sdp);
        }
        assert!(offered.sdp.contains("127.0.0.1 5000"), "{}", offered.sdp);
    }

    #[test]
    fn a_simulcast_is_offered_with_its_layers() {
        let identity = Identity::generate().unwrap();
        let local = "127.0.0.1:5000".parse().unwrap();
        let (offered, senders) = publisher(&identity, local, Codec::H264, 3, 7, Instant::now()).unwrap();
        for line in ["a=simulcast:send f;h;q", "a=rid:f send", "a=rid:q send", "a=sendrecv"] {
            assert!(offered.sdp.contains(line), "{line} is not in\n{}", offered.sdp);
        }
        let names = senders.names.unwrap();
        assert!(
            offered.sdp.contains(&format!("a=extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid", names.mid_id))
        );
        assert_eq!(senders.video_ssrcs, [8, 9, 10]);
        let (offered, senders) = publisher(&identity, local, Codec::Vp8, 1, 7, Instant::now()).unwrap();
        assert!(!offered.sdp.contains("simulcast") && senders.names.is_none());
    }
}
