//! How `rtc`'s connections are built: from a reduced offer, with as little in them as will do.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use haul_model::{Codec, Kind};
use rtc::{
    crypto::{RTCCrypto, RTCCryptoProvider, SignatureScheme, providers::AwsLcRsProvider},
    dtls::extension::extension_use_srtp::SrtpProtectionProfile,
    ice::mdns::MulticastDnsMode,
    interceptor::{ReceiverReportBuilder, Registry, Slot, TwccReceiverBuilder},
    media_stream::MediaStreamTrack,
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        certificate::RTCCertificate,
        configuration::{
            RTCConfigurationBuilder, media_engine::MediaEngine, setting_engine::SettingEngineBuilder,
        },
        sdp::{RTCSdpType, RTCSessionDescription},
        transport::{CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate},
    },
    rtp_transceiver::{
        RTCRtpReceiverId, RTCRtpSenderId,
        rtp_sender::{
            RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
            RTCRtpEncodingParameters, RTCRtpHeaderExtensionCapability, RTCRtpRtxParameters, RtpCodecKind,
        },
    },
};

use crate::{
    OfferError, Role, keys,
    sdp::{self, Format, Offer},
    sdpfrag::Credentials,
    tap,
};

/// How late a packet may be and still be taken (SRTP's replay window): as late as assembly has a use for it, so that
/// retransmissions come through. `rtc`'s own is 64, a twentieth of a second at a high rate.
const REPLAY_WINDOW: usize = haul_media::assembly::MAX_SPAN;
/// `rtc` never takes a path for dead, and sends no checks to keep one alive: it sees none of the checks that come once
/// the session is connected (see `ice.rs`), and when a session ends is decided by our own limits.
const NEVER: Option<Duration> = Some(Duration::ZERO);
/// The SRTP profiles by `rtc`'s names for them.
pub(crate) const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
pub(crate) const SHA1: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
/// The media stream that a viewer's tracks belong to, so that players keep them in sync. Also their CNAME.
pub(crate) const STREAM: &str = "haul";

/// What all connections of a server share: the certificate and the cryptography.
#[derive(Clone)]
pub(crate) struct Identity {
    provider: Arc<dyn RTCCryptoProvider>,
    certificate: RTCCertificate,
}

impl Identity {
    /// The cryptography.
    pub(crate) fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }

    /// A fresh self-signed certificate (RFC 8827, 6.5: its fingerprint in the SDP is what vouches for it).
    pub(crate) fn generate() -> Result<Self, String> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let params =
            rcgen::CertificateParams::new(vec!["haul".to_owned()]).map_err(|error| error.to_string())?;
        let certificate =
            RTCCertificate::generate(provider.crypto(), SignatureScheme::EcdsaP256Sha256, params)
                .map_err(|error| error.to_string())?;
        Ok(Self { provider, certificate })
    }
}

/// What a connection is built from. It can be built again from the same, and the answer stays true.
pub(crate) struct Terms {
    pub(crate) offer: Offer,
    pub(crate) role: Role,
    /// Our half of the first ICE session, in which the connection comes about.
    pub(crate) credentials: Credentials,
    /// What a viewer's streams are sent as.
    pub(crate) ssrcs: Ssrcs,
    /// Our address as far as `rtc` knows; the answer names all of them.
    pub(crate) local: SocketAddr,
}

/// Stream identifiers of what we send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ssrcs {
    pub(crate) video: u32,
    pub(crate) rtx: u32,
    pub(crate) audio: u32,
}

/// A connection fresh from its terms.
pub(crate) struct Built {
    pub(crate) connection: RTCPeerConnection,
    pub(crate) keys: keys::Captured,
    pub(crate) tap: tap::Reader,
    /// Any of its senders or receivers, through which RTCP is sent.
    pub(crate) handle: Option<Handle>,
    /// `rtc`'s answer, which is for [`Offer::complete`].
    pub(crate) answer: String,
}

#[derive(Clone, Copy)]
pub(crate) enum Handle {
    Sender(RTCRtpSenderId),
    Receiver(RTCRtpReceiverId),
}

/// Builds a connection whose offer is applied and whose answer is made.
pub(crate) fn build(
    identity: &Identity,
    terms: &Terms,
    profiles: Vec<SrtpProtectionProfile>,
    now: Instant,
) -> Result<Built, OfferError> {
    let offer = &terms.offer;
    let mut engine = MediaEngine::default();
    let mut registry = Registry::new();
    for format in offer.video.iter().chain(&offer.audio) {
        register(&mut engine, format, terms.role).map_err(internal)?;
    }
    if terms.role == Role::Publisher {
        for uri in [sdp::MID, sdp::RID, sdp::TRANSPORT_CC, sdp::CAPTURE_TIME] {
            for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
                let extension = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
                engine.register_header_extension(extension, kind, None).map_err(internal)?;
            }
        }
        // Lost packets are asked for by who knows whether they are still of use: `haul_media::Assembly`.
        registry = registry
            .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
            .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build());
    }
    let (tapped, tap) = tap::Tap::new();
    // Nearest to the wire: before the first of `rtc`'s own, which begin at 1000.
    registry = registry.with(Slot::Custom(500), tapped);

    let (provider, keys) = keys::capturing(identity.provider.clone());
    let settings = SettingEngineBuilder::new()
        .with_crypto_provider(provider)
        .with_lite(true)
        .with_srtp_replay_protection_window(REPLAY_WINDOW)
        .with_ice_credentials(terms.credentials.ufrag.clone(), terms.credentials.password.clone())
        .with_ice_timeouts(NEVER, NEVER, NEVER)
        .with_multicast_dns_mode(MulticastDnsMode::Disabled)
        .with_srtp_protection_profiles(profiles)
        .with_answering_dtls_role(if offer.we_connect { RTCDtlsRole::Client } else { RTCDtlsRole::Server })
        .build();
    let configuration =
        RTCConfigurationBuilder::new().with_certificates(vec![identity.certificate.clone()]).build();
    let mut connection = RTCPeerConnectionBuilder::new()
        .with_configuration(configuration)
        .with_media_engine(engine)
        .with_setting_engine(settings)
        .with_interceptor_registry(registry)
        .build(now)
        .map_err(internal)?;

    // Its constructor would parse it, and throw that away: it is parsed when it is set.
    let mut description = RTCSessionDescription::default();
    (description.sdp_type, description.sdp) = (RTCSdpType::Offer, offer.sdp.clone());
    connection.set_remote_description(now, description).map_err(malformed)?;
    let handle = match terms.role {
        Role::Publisher => connection.get_receivers().next().map(Handle::Receiver),
        Role::Viewer => {
            let mut first = None;
            for format in offer.video.iter().chain(&offer.audio) {
                let sender = connection.add_track(track(format, terms.ssrcs)).map_err(internal)?;
                first.get_or_insert(Handle::Sender(sender));
            }
            first
        }
    };
    connection.add_local_candidate(candidate(terms.local).map_err(internal)?).map_err(internal)?;
    let answer = connection.create_answer(None).map_err(internal)?;
    // Without candidates, which [`Offer::complete`] puts in: `local_description` would parse and write it all again.
    let text = answer.sdp.clone();
    connection.set_local_description(now, answer).map_err(internal)?;
    // No more candidates will come.
    connection.add_local_candidate(Default::default()).map_err(internal)?;
    Ok(Built { connection, keys, tap, handle, answer: text })
}

/// Registers the offer's own payload types and parameters, so that every match is exact.
fn register(engine: &mut MediaEngine, format: &Format, role: Role) -> rtc::shared::error::Result<()> {
    let kind = kind(format.codec);
    let parameters =
        RTCRtpCodecParameters { rtp_codec: codec(format, role), payload_type: format.payload_type };
    engine.register_codec(parameters, kind)?;
    if let Some(payload_type) = format.rtx {
        let rtx = RTCRtpCodec {
            mime_type: "video/rtx".to_owned(),
            clock_rate: format.codec.clock_rate_hz(),
            sdp_fmtp_line: format!("apt={}", format.payload_type),
            ..RTCRtpCodec::default()
        };
        engine.register_codec(RTCRtpCodecParameters { rtp_codec: rtx, payload_type }, kind)?;
    }
    Ok(())
}

fn codec(format: &Format, role: Role) -> RTCRtpCodec {
    let feedback =
        |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    let mut rtcp_feedback = match format.codec.kind() {
        Kind::Video => vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")],
        Kind::Audio => Vec::new(),
    };
    if role == Role::Publisher {
        rtcp_feedback.push(feedback("transport-cc", ""));
    }
    let (kind, channels) = match format.codec.kind() {
        Kind::Video => ("video", 0),
        Kind::Audio => ("audio", 2),
    };
    RTCRtpCodec {
        mime_type: format!("{kind}/{}", format.codec.name()),
        clock_rate: format.codec.clock_rate_hz(),
        channels,
        sdp_fmtp_line: format.fmtp.clone(),
        rtcp_feedback,
    }
}

fn kind(codec: Codec) -> RtpCodecKind {
    match codec.kind() {
        Kind::Video => RtpCodecKind::Video,
        Kind::Audio => RtpCodecKind::Audio,
    }
}

fn track(format: &Format, ssrcs: Ssrcs) -> MediaStreamTrack {
    let (name, ssrc) = match format.codec.kind() {
        Kind::Video => ("video", ssrcs.video),
        Kind::Audio => ("audio", ssrcs.audio),
    };
    let coding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            rtx: format.rtx.map(|_| RTCRtpRtxParameters { ssrc: ssrcs.rtx }),
            ..RTCRtpCodingParameters::default()
        },
        codec: codec(format, Role::Viewer),
        ..RTCRtpEncodingParameters::default()
    };
    MediaStreamTrack::new(
        STREAM.to_owned(),
        name.to_owned(),
        name.to_owned(),
        kind(format.codec),
        vec![coding],
    )
}

fn candidate(
    address: SocketAddr,
) -> rtc::shared::error::Result<rtc::peer_connection::transport::RTCIceCandidateInit> {
    let base_config = CandidateConfig {
        network: "udp".to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        component: 1,
        ..CandidateConfig::default()
    };
    let config = CandidateHostConfig { base_config, ..CandidateHostConfig::default() };
    RTCIceCandidate::from(&config.new_candidate_host()?).to_json()
}

fn malformed(error: impl std::fmt::Display) -> OfferError {
    OfferError::Malformed(error.to_string())
}

fn internal(error: impl std::fmt::Display) -> OfferError {
    OfferError::Internal(error.to_string())
}
