//! How `rtc`'s connections, which are hosts', are built: from a reduced offer, with as little in them as will do.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use haul_model::{Codec, Kind};
use rtc::{
    dtls::extension::extension_use_srtp::SrtpProtectionProfile,
    ice::mdns::MulticastDnsMode,
    interceptor::{ReceiverReportBuilder, Registry, Slot, TwccReceiverBuilder},
    peer_connection::{
        RTCPeerConnection, RTCPeerConnectionBuilder,
        configuration::{
            RTCConfigurationBuilder, media_engine::MediaEngine, setting_engine::SettingEngineBuilder,
        },
        sdp::{RTCSdpType, RTCSessionDescription},
        transport::{CandidateConfig, CandidateHostConfig, RTCDtlsRole, RTCIceCandidate},
    },
    rtp_transceiver::{
        RTCRtpReceiverId,
        rtp_sender::{
            RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpHeaderExtensionCapability, RtpCodecKind,
        },
    },
};

use crate::{
    OfferError,
    identity::Identity,
    keys,
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
/// What a connection is built from. It can be built again from the same, and the answer stays true.
pub(crate) struct Terms {
    pub(crate) offer: Offer,
    /// Our half of the first ICE session, in which the connection comes about.
    pub(crate) credentials: Credentials,
    /// Our address as far as `rtc` knows; the answer names all of them.
    pub(crate) local: SocketAddr,
}

/// A connection fresh from its terms.
pub(crate) struct Built {
    pub(crate) connection: RTCPeerConnection,
    pub(crate) keys: keys::Captured,
    pub(crate) tap: tap::Reader,
    /// Any of its receivers, through which RTCP is sent.
    pub(crate) receiver: Option<RTCRtpReceiverId>,
    /// `rtc`'s answer, which is for [`Offer::complete`].
    pub(crate) answer: String,
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
    for format in offer.video.iter().chain(&offer.audio) {
        register(&mut engine, format).map_err(internal)?;
    }
    for uri in [sdp::MID, sdp::RID, sdp::TRANSPORT_CC, sdp::CAPTURE_TIME] {
        for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
            let extension = RTCRtpHeaderExtensionCapability { uri: uri.to_owned() };
            engine.register_header_extension(extension, kind, None).map_err(internal)?;
        }
    }
    let (tapped, tap) = tap::Tap::new();
    // Lost packets are asked for by who knows whether they are still of use: `haul_media::Assembly`.
    let registry = Registry::new()
        .with(Slot::TwccReceiver, TwccReceiverBuilder::new().build())
        .with(Slot::ReceiverReport, ReceiverReportBuilder::new().build())
        // Nearest to the wire: before the first of `rtc`'s own, which begin at 1000.
        .with(Slot::Custom(500), tapped);

    let (provider, keys) = identity.capturing();
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
        RTCConfigurationBuilder::new().with_certificates(vec![identity.certificate()]).build();
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
    let receiver = connection.get_receivers().next();
    connection.add_local_candidate(candidate(terms.local).map_err(internal)?).map_err(internal)?;
    let answer = connection.create_answer(None).map_err(internal)?;
    // Without candidates, which [`Offer::complete`] puts in: `local_description` would parse and write it all again.
    let text = answer.sdp.clone();
    connection.set_local_description(now, answer).map_err(internal)?;
    // No more candidates will come.
    connection.add_local_candidate(Default::default()).map_err(internal)?;
    Ok(Built { connection, keys, tap, receiver, answer: text })
}

/// Registers the offer's own payload types and parameters, so that every match is exact.
fn register(engine: &mut MediaEngine, format: &Format) -> rtc::shared::error::Result<()> {
    let parameters = RTCRtpCodecParameters { rtp_codec: codec(format), payload_type: format.payload_type };
    engine.register_codec(parameters, kind(format.codec))
}

fn codec(format: &Format) -> RTCRtpCodec {
    let feedback =
        |typ: &str, parameter: &str| RTCPFeedback { typ: typ.to_owned(), parameter: parameter.to_owned() };
    let (kind, channels, mut rtcp_feedback) = match format.codec.kind() {
        Kind::Video => {
            ("video", 0, vec![feedback("nack", ""), feedback("nack", "pli"), feedback("ccm", "fir")])
        }
        Kind::Audio => ("audio", 2, Vec::new()),
    };
    rtcp_feedback.push(feedback("transport-cc", ""));
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
