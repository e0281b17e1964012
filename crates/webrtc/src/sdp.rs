//! Offers and answers: from what a client offers, only what we will use goes to `rtc`, so that it has little to parse
//! and nothing to decide; its answer is then completed with what was left out. Offers are untrusted text.

mod answer;
mod profiles;

use std::{collections::HashSet, fmt::Write as _, net::SocketAddr};

use haul_media::{Broadcast, relay::MAX_LAYERS};
use haul_model::{Codec, Kind, TrackInfo};

pub(crate) use self::answer::{Ourselves, STREAM};
use crate::{MAX_OFFER_BYTES, OfferError, Role, identity::Fingerprints, sdpfrag::Credentials};

/// Names the stream and section a packet belongs to (RFC 9143).
pub(crate) const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
/// Names a simulcast layer (RFC 8852).
pub(crate) const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
/// Numbers packets across streams for congestion control.
pub(crate) const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Tells when a packet's content was captured.
pub(crate) const CAPTURE_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
/// Tells for how long at least pictures are to be held back before they are shown.
pub(crate) const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
/// The largest id that fits into one-byte extension headers (RFC 8285, 4.2).
const MAX_EXTENSION: u8 = 14;

/// Header extensions towards viewers, by the ids in the offer; `None` where it has none that fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Extensions {
    /// [`TRANSPORT_CC`]; only where the client gives feedback on it, too.
    pub(crate) transport: Option<u8>,
    /// [`CAPTURE_TIME`].
    pub(crate) capture_time: Option<u8>,
    /// [`PLAYOUT_DELAY`].
    pub(crate) playout_delay: Option<u8>,
}

/// One payload type of the offer that will be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) codec: Codec,
    pub(crate) payload_type: u8,
    /// The offer's own parameters, which the answer repeats.
    pub(crate) fmtp: String,
    /// The payload type of its retransmission stream (RFC 4588), towards viewers.
    pub(crate) rtx: Option<u8>,
    /// What its packets carry in their headers, towards viewers.
    pub(crate) extensions: Extensions,
    /// The client offers to tell its own estimate (REMB). Used where it gives no feedback.
    pub(crate) remb: bool,
}

/// Whether a viewer's format with these parameters decodes what a host sends.
pub(crate) fn decodes(codec: Codec, fmtp: &str, sent: &TrackInfo) -> bool {
    profiles::viewer_rank(sent, codec, fmtp).is_some()
}

impl Format {
    pub(crate) fn track(&self) -> TrackInfo {
        TrackInfo { codec: self.codec, fmtp: self.fmtp.clone() }
    }

    /// What the answer says besides `rtc`'s: `rtc` does not send to viewers, so it need not know of these.
    fn write_additions(&self, text: &mut String) {
        let Extensions { transport, capture_time, playout_delay } = self.extensions;
        let taken = [(transport, TRANSPORT_CC), (capture_time, CAPTURE_TIME), (playout_delay, PLAYOUT_DELAY)];
        for (id, uri) in taken {
            if let Some(id) = id {
                let _ = write!(text, "a=extmap:{id} {uri}\r\n");
            }
        }
        let payload_type = self.payload_type;
        if transport.is_some() {
            let _ = write!(text, "a=rtcp-fb:{payload_type} transport-cc\r\n");
        } else if self.remb {
            let _ = write!(text, "a=rtcp-fb:{payload_type} goog-remb\r\n");
        }
    }
}

/// A section that carries nothing but the transport of the others: it can't be turned down, because clients that bundle
/// everything from the start (`max-bundle`) have no transport for the others then.
#[derive(Debug, Clone)]
pub(crate) struct Bearer {
    /// Its place among the offer's sections.
    index: usize,
    mid: String,
    /// The answer to it, less the transport.
    text: String,
}

/// The video codecs there are, as an error names them.
const VIDEO_CODECS: &str = "H264, VP8, VP9, AV1 or H265";

/// An offer, reduced to what we use of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Offer {
    pub(crate) video: Option<Format>,
    pub(crate) audio: Option<Format>,
    /// Simulcast layers offered, in order.
    pub(crate) rids: Vec<String>,
    /// The publisher takes requests for lost packets of its video (`nack`).
    pub(crate) nack: bool,
    /// The number of the header extension that says when a packet's content was captured.
    pub(crate) capture_time: Option<u8>,
    /// The host's parameters for sound, which a viewer's answer tells (stereo, in-band FEC).
    pub(crate) sound_parameters: Option<String>,
    /// The client insists on being the DTLS server (`setup:passive`), so that we have to begin.
    pub(crate) we_connect: bool,
    /// The SDP for `rtc`.
    pub(crate) sdp: String,
    /// For each section of the client's offer: `None` if it is in `sdp`, else how it is turned down.
    pub(crate) sections: Vec<Option<String>>,
    /// The first section of the bundle, if it is of no use.
    pub(crate) bearer: Option<Bearer>,
}

impl Offer {
    /// Reads a publisher's offer. Either kind may be missing. Of several video codecs, the one that most viewers can
    /// decode is taken, since nothing is transcoded (see [`publisher_rank`]); of one codec's profiles, the one that is
    /// listed first. A host who wants another codec offers that one alone, as browsers do after `setCodecPreferences`.
    pub(crate) fn from_publisher(text: &str) -> Result<Self, OfferError> {
        read(text, Role::Publisher, |section| section.best(VIDEO_CODECS, publisher_rank)).and_then(|offer| {
            match (&offer.video, &offer.audio) {
                (None, None) => Err(OfferError::Codec(format!("{VIDEO_CODECS} or opus"))),
                _ => Ok(offer),
            }
        })
    }

    /// Reads a viewer's offer: the codecs of `broadcast`, since what the host sends is not transcoded.
    pub(crate) fn from_viewer(text: &str, broadcast: &Broadcast) -> Result<Self, OfferError> {
        let mut offer = read(text, Role::Viewer, |section| {
            let wanted = if section.kind == "video" { &broadcast.video } else { &broadcast.audio };
            let Some(track) = wanted else { return Ok(None) };
            section.best(&profiles::name(track), |codec, fmtp| profiles::viewer_rank(track, codec, fmtp))
        })?;
        if offer.video.is_none() && offer.audio.is_none() {
            let needed = broadcast.video.as_ref().or(broadcast.audio.as_ref());
            return Err(OfferError::Codec(needed.map_or("opus".to_owned(), profiles::name)));
        }
        offer.sound_parameters =
            offer.audio.as_ref().and(broadcast.audio.as_ref()).map(|track| track.fmtp.clone());
        Ok(offer)
    }

    /// Whether the client, a viewer, reports the arrival of packets.
    pub(crate) fn gives_feedback(&self) -> bool {
        self.video.iter().chain(&self.audio).any(|format| format.extensions.transport.is_some())
    }

    /// The client's half of the ICE session.
    pub(crate) fn credentials(&self) -> Credentials {
        let value =
            |key| self.sdp.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default().to_owned();
        Credentials { ufrag: value("a=ice-ufrag:"), password: value("a=ice-pwd:") }
    }

    /// Completes `rtc`'s answer: sections that were left out are turned down in their places, and all our addresses
    /// are named by `candidates`.
    pub(crate) fn complete(&self, answer: &str, candidates: &str) -> String {
        let mut parts = sections_of(answer.lines().filter(|line| {
            !line.is_empty() && !line.starts_with("a=candidate:") && *line != "a=end-of-candidates"
        }));
        let mut kept = parts.split_off(1).into_iter().enumerate();
        let mut text = String::with_capacity(answer.len() + 512);
        let group = self.bearer.as_ref().map(|bearer| format!("a=group:BUNDLE {}", bearer.mid));
        for line in parts.concat() {
            match (&group, line.strip_prefix("a=group:BUNDLE")) {
                (Some(group), Some(others)) => write_lines(&mut text, [group.as_str().to_owned() + others]),
                _ => write_lines(&mut text, [line]),
            }
        }
        for (place, section) in self.sections.iter().enumerate() {
            if let Some(bearer) = self.bearer.as_ref().filter(|bearer| bearer.index == place) {
                text.push_str(&bearer.text);
                let transport = ["a=setup:", "a=ice-ufrag:", "a=ice-pwd:"];
                let lines = answer.lines();
                let says = |line: &&str| transport.iter().any(|key| line.starts_with(key));
                write_lines(&mut text, lines.skip_while(|line| !line.starts_with("m=")).filter(says).take(3));
                text.push_str(candidates);
                continue;
            }
            match section {
                Some(rejection) => text.push_str(rejection),
                None => {
                    let Some((index, mut lines)) = kept.next() else { break };
                    let sound = self.sound_line();
                    if let Some((key, told)) = &sound
                        && let Some(line) = lines.iter_mut().find(|line| line.starts_with(key))
                    {
                        *line = told;
                    }
                    let is_video = lines.first().is_some_and(|line| line.starts_with("m=video"));
                    write_lines(&mut text, lines);
                    if let Some(format) = if is_video { &self.video } else { &self.audio } {
                        format.write_additions(&mut text);
                    }
                    // All sections share one transport, so the first says it for all (RFC 9143, 7.1.3). Behind a
                    // bearer it says it once more, for clients that read nothing in a section without media (Pion's kin).
                    if index == 0 {
                        text.push_str(candidates);
                    }
                }
            }
        }
        text
    }
}

impl Offer {
    /// The line of a viewer's answer that tells the host's parameters for sound, and how the line that it replaces
    /// begins.
    fn sound_line(&self) -> Option<(String, String)> {
        let parameters = self.sound_parameters.as_ref().filter(|told| !told.is_empty())?;
        let key = format!("a=fmtp:{} ", self.audio.as_ref()?.payload_type);
        let line = format!("{key}{parameters}");
        Some((key, line))
    }
}

/// One section of an offer, and what was chosen of it.
struct Section<'a> {
    kind: &'a str,
    lines: &'a [&'a str],
    payload_types: Vec<&'a str>,
}

impl<'a> Section<'a> {
    /// The payload type with the lowest rank, the offer's order deciding among equals. An error that names what is
    /// `needed` if there is no video.
    fn best(
        &self,
        needed: &str,
        rank: impl Fn(Codec, &str) -> Option<u32>,
    ) -> Result<Option<Format>, OfferError> {
        let ranked = self.payload_types.iter().filter_map(|name| {
            let codec = codec(self.attribute("a=rtpmap:", name)?)?;
            if codec.kind() != self.media()? {
                return None;
            }
            let fmtp = self.attribute("a=fmtp:", name).unwrap_or_default();
            let format = Format {
                codec,
                payload_type: payload_type(name)?,
                fmtp: fmtp.to_owned(),
                rtx: None,
                extensions: Extensions::default(),
                remb: false,
            };
            Some((rank(codec, fmtp)?, format))
        });
        match ranked.min_by_key(|(rank, _)| *rank) {
            Some((_, format)) => Ok(Some(format)),
            None if self.kind == "video" => Err(OfferError::Codec(needed.to_owned())),
            None => Ok(None),
        }
    }

    fn media(&self) -> Option<Kind> {
        match self.kind {
            "audio" => Some(Kind::Audio),
            "video" => Some(Kind::Video),
            _ => None,
        }
    }

    /// Whether lost packets of `payload_type` may be asked for.
    fn takes_nacks(&self, payload_type: u8) -> bool {
        let feedback = |name: &str| {
            self.lines.iter().any(|line| {
                line.strip_prefix("a=rtcp-fb:").and_then(|rest| rest.strip_prefix(name)) == Some(" nack")
            })
        };
        feedback(&payload_type.to_string()) || feedback("*")
    }

    /// The number of a header extension.
    fn extension(&self, uri: &str) -> Option<u8> {
        let mut extensions = self.lines.iter().filter_map(|line| line.strip_prefix("a=extmap:"));
        extensions.find_map(|line| {
            let (number, rest) = line.split_once(' ')?;
            let number = number.split('/').next()?.parse().ok()?;
            (rest.split(' ').next() == Some(uri)).then_some(number)
        })
    }

    /// The payload type of the retransmission stream for the payload type `of`.
    fn rtx_for(&self, of: u8) -> Option<u8> {
        self.payload_types.iter().find_map(|name| {
            let is_rtx = self.attribute("a=rtpmap:", name)?.to_ascii_lowercase().starts_with("rtx/");
            let apt = parameter(self.attribute("a=fmtp:", name)?, "apt")?;
            (is_rtx && apt == of.to_string()).then(|| payload_type(name))?
        })
    }

    /// The extensions towards a viewer that it offers.
    fn extensions(&self, payload_type: u8) -> Extensions {
        let id = |wanted: &str| {
            self.lines.iter().find_map(|line| {
                let mut words = line.strip_prefix("a=extmap:")?.split(' ');
                let (id, uri) = (words.next()?, words.next()?);
                let id = id.split('/').next()?.parse().ok()?;
                (uri == wanted && (1..=MAX_EXTENSION).contains(&id)).then_some(id)
            })
        };
        let transport = id(TRANSPORT_CC).filter(|_| self.has_feedback(payload_type, "transport-cc"));
        Extensions { transport, capture_time: id(CAPTURE_TIME), playout_delay: id(PLAYOUT_DELAY) }
    }

    fn has_feedback(&self, payload_type: u8, name: &str) -> bool {
        let all = payload_type.to_string();
        let mut feedback =
            self.lines.iter().filter_map(|line| line.strip_prefix("a=rtcp-fb:")?.split_once(' '));
        feedback.any(|(about, what)| (about == "*" || about == all) && what == name)
    }

    /// The value of the attribute line that begins with `key` and is about `payload_type`.
    fn attribute(&self, key: &str, payload_type: &str) -> Option<&'a str> {
        self.lines
            .iter()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(payload_type)?.strip_prefix(' '))
    }

    fn value(&self, key: &str) -> Option<&'a str> {
        self.lines.iter().find_map(|line| line.strip_prefix(key))
    }

    /// Whether media may flow the way we need it, and the section is not turned down by the client itself.
    fn flows(&self, role: Role) -> bool {
        let against = match role {
            Role::Publisher => "a=recvonly",
            Role::Viewer => "a=sendonly",
        };
        let port_zero = self.lines[0].split(' ').nth(1) == Some("0");
        let turned_down = port_zero && !self.lines.contains(&"a=bundle-only");
        !turned_down && !self.lines.contains(&against) && !self.lines.contains(&"a=inactive")
    }

    /// Whether its media goes encrypted, with keys from DTLS: whatever clients call that.
    fn is_secure(&self) -> bool {
        let protocol = self.lines[0].split(' ').nth(2).unwrap_or_default();
        let carrier = protocol.strip_suffix("RTP/SAVPF").or(protocol.strip_suffix("RTP/SAVP"));
        matches!(carrier, Some("" | "UDP/TLS/" | "TCP/TLS/" | "TCP/DTLS/"))
    }

    /// Whether a publisher means to send pictures or sound in it.
    fn sends_media(&self) -> bool {
        matches!(self.kind, "audio" | "video") && self.flows(Role::Publisher)
    }

    /// The answer to a section we don't use (RFC 8829, 5.3.1): turned down with port 0. It names one format, as it must
    /// name any.
    fn rejection(&self) -> String {
        self.inactive(0)
    }

    /// The section as one by which no media goes.
    fn inactive(&self, port: u16) -> String {
        let format = self.payload_types[0];
        let protocol = self.lines[0].split(' ').nth(2).unwrap_or("UDP/TLS/RTP/SAVPF");
        let kind = self.kind;
        let mut text = format!("m={kind} {port} {protocol} {format}\r\nc=IN IP4 0.0.0.0\r\na=inactive\r\n");
        if let Some(mid) = self.value("a=mid:") {
            let _ = write!(text, "a=mid:{mid}\r\n");
        }
        if let Some(rtpmap) = self.attribute("a=rtpmap:", format) {
            let _ = write!(text, "a=rtpmap:{format} {rtpmap}\r\n");
        }
        text
    }
}

fn read(
    text: &str,
    role: Role,
    choose: impl Fn(&Section<'_>) -> Result<Option<Format>, OfferError>,
) -> Result<Offer, OfferError> {
    let malformed = |why: &str| OfferError::Malformed(why.to_owned());
    if text.len() > MAX_OFFER_BYTES {
        return Err(OfferError::TooLarge);
    }
    if !text.starts_with("v=0") {
        return Err(malformed("it does not begin with v=0"));
    }
    let mut parts = sections_of(text.lines().map(str::trim_end).filter(|line| !line.is_empty()));
    let session = parts.remove(0);
    if parts.is_empty() {
        return Err(malformed("it has no media section"));
    }
    let everything = || session.iter().chain(parts.iter().flatten());
    for needed in ["a=fingerprint:", "a=ice-ufrag:", "a=ice-pwd:"] {
        if !everything().any(|line| line.starts_with(needed)) {
            return Err(OfferError::Malformed(format!("it has no {needed} line")));
        }
    }

    if !everything().any(|line| *line == "a=rtcp-mux") {
        return Err(OfferError::Shape("its RTCP must go by the port of its RTP (a=rtcp-mux)"));
    }
    let mut setups = everything().filter_map(|line| line.strip_prefix("a=setup:"));
    if setups.any(|setup| !matches!(setup, "actpass" | "active" | "passive")) {
        return Err(malformed("a=setup is actpass, active or passive"));
    }
    let mut offer = Offer {
        we_connect: everything().find_map(|line| line.strip_prefix("a=setup:")) == Some("passive"),
        sdp: String::with_capacity(text.len()),
        sections: Vec::with_capacity(parts.len()),
        ..Offer::default()
    };
    let bundled = session.iter().find_map(|line| line.strip_prefix("a=group:BUNDLE"));
    let (mut media, mut mids, mut kept) = (String::new(), Vec::new(), 0);
    let mut names = HashSet::new();
    for lines in &parts {
        let section =
            Section::new(lines).ok_or_else(|| malformed("a media section's first line is incomplete"))?;
        if !lines.iter().filter_map(|line| line.strip_prefix("a=mid:")).all(|mid| names.insert(mid)) {
            return Err(malformed("an a=mid stands there twice"));
        }
        let taken = match section.kind {
            "audio" => offer.audio.is_some(),
            "video" => offer.video.is_some(),
            _ => true,
        };
        let chosen = if taken || !section.flows(role) { None } else { choose(&section)? };
        if role == Role::Publisher && chosen.is_none() && section.sends_media() {
            // RFC 9725, 4.4.2 and 4.4.3: no session in which half of what the host sends is lost without a word.
            return Err(match taken {
                true => {
                    OfferError::Shape("one video and one audio track can be published, not several of a kind")
                }
                false => OfferError::Codec("opus".to_owned()),
            });
        }
        if chosen.is_some() && !section.is_secure() {
            return Err(OfferError::Shape("its media must be encrypted (UDP/TLS/RTP/SAVPF)"));
        }
        let Some(mut format) = chosen else {
            let tagged = bundled.and_then(|group| group.split(' ').find(|mid| !mid.is_empty()));
            if let Some(mid) = section.value("a=mid:").filter(|mid| Some(*mid) == tagged)
                && section.media().is_some()
            {
                let text = section.inactive(ANY_PORT) + "a=rtcp-mux\r\n";
                offer.bearer = Some(Bearer { index: offer.sections.len(), mid: mid.to_owned(), text });
            }
            offer.sections.push(Some(section.rejection()));
            continue;
        };
        if role == Role::Viewer {
            format.rtx = section.rtx_for(format.payload_type);
            format.extensions = section.extensions(format.payload_type);
            format.remb = section.has_feedback(format.payload_type, "goog-remb");
        }
        let rids = section.lines.iter().filter_map(|line| line.strip_prefix("a=rid:")?.split(' ').next());
        let rids: Vec<String> = rids.map(str::to_owned).collect();
        if rids.iter().collect::<HashSet<_>>().len() < rids.len() {
            return Err(malformed("two of its simulcast layers have the same name"));
        }
        if rids.len() > usize::from(MAX_LAYERS) {
            return Err(OfferError::Malformed(format!("it has more than {MAX_LAYERS} simulcast layers")));
        }
        mids.extend(section.value("a=mid:"));
        kept += 1;
        section.write_reduced(&mut media, role, &format);
        for key in TRANSPORT_LINES {
            // RFC 8843, 7.1.3: a section that is bundled may leave these to the first of its group, which may be one
            // that we turn down.
            let says = |line: &&&str| line.starts_with(key);
            if !session.iter().chain(lines).any(|line| says(&line))
                && let Some(line) = parts.iter().flatten().find(says)
            {
                let _ = write!(media, "{line}\r\n");
            }
        }
        offer.sections.push(None);
        offer.capture_time = offer.capture_time.or(section.extension(CAPTURE_TIME));
        match section.kind {
            "video" => {
                offer.nack = section.takes_nacks(format.payload_type);
                (offer.video, offer.rids) = (Some(format), rids);
            }
            _ => offer.audio = Some(format),
        }
    }
    let in_group = |mid: &&str| bundled.is_some_and(|group| group.split(' ').any(|other| other == *mid));
    if kept > 1 && mids.iter().copied().filter(in_group).count() < kept {
        // RFC 9725, 4.4.1.
        return Err(OfferError::Shape(
            "its sections must be bundled (a=group:BUNDLE) to share one transport",
        ));
    }
    for line in session {
        if line.starts_with("a=group:BUNDLE") {
            let _ = write!(offer.sdp, "a=group:BUNDLE {}\r\n", mids.join(" "));
        } else if SESSION_LINES.iter().any(|kept| line.starts_with(kept)) {
            offer.sdp.push_str(line);
            offer.sdp.push_str("\r\n");
        }
    }
    offer.sdp.push_str(&media);
    if kept == 0 {
        return Ok(offer);
    }
    if !offer.credentials().are_wellformed() {
        return Err(malformed("an ICE name or password has a wrong length or character"));
    }
    if Fingerprints::read(&offer.sdp).is_none() {
        return Err(malformed("it has no a=fingerprint of sha-256, sha-384 or sha-512"));
    }
    let types = |format: &Format| [Some(format.payload_type), format.rtx];
    let types: Vec<u8> = offer.video.iter().chain(&offer.audio).flat_map(types).flatten().collect();
    if types.iter().collect::<HashSet<_>>().len() < types.len() {
        return Err(malformed("one payload type stands for two things, by one transport"));
    }
    Ok(offer)
}

/// What `rtc` gets of an offer's session part.
const SESSION_LINES: [&str; 9] = [
    "v=",
    "o=",
    "s=",
    "t=",
    "a=fingerprint:",
    "a=setup:",
    "a=ice-",
    "a=msid-semantic:",
    "a=extmap-allow-mixed",
];

/// Says that a section is in use, and nothing else: candidates say where (RFC 8840, 4.1.1).
const ANY_PORT: u16 = 9;

/// What makes a transport, which `rtc` needs in each section or in the session part.
const TRANSPORT_LINES: [&str; 4] = ["a=ice-ufrag:", "a=ice-pwd:", "a=fingerprint:", "a=setup:"];

/// What `rtc` gets of a media section, besides what is chosen line by line. Candidates are left out: we are ICE-lite,
/// and a client's checks tell where it is.
const MEDIA_LINES: [&str; 7] =
    ["c=", "a=fingerprint:", "a=setup:", "a=ice-", "a=mid:", "a=rtcp-mux", "a=rtcp-rsize"];

impl<'a> Section<'a> {
    fn new(lines: &'a [&'a str]) -> Option<Self> {
        let mut words = lines.first()?.strip_prefix("m=")?.split(' ');
        let (kind, _port, _protocol) = (words.next()?, words.next()?, words.next()?);
        let payload_types: Vec<&str> = words.collect();
        (!payload_types.is_empty()).then_some(Self { kind, lines, payload_types })
    }

    /// The section with one codec, the way media will flow, and only the extensions and feedback we speak.
    fn write_reduced(&self, text: &mut String, role: Role, format: &Format) {
        let payload_type = format.payload_type.to_string();
        let mut kept = vec![payload_type.clone()];
        kept.extend(format.rtx.map(|rtx| rtx.to_string()));
        let mut head = self.lines[0].splitn(4, ' ');
        let head: Vec<&str> = head.by_ref().take(3).collect();
        let _ = write!(text, "{} {}\r\n", head.join(" "), kept.join(" "));
        for line in &self.lines[1..] {
            let about = |key: &str| line.strip_prefix(key).and_then(|rest| rest.split(' ').next());
            let keep = if let Some(about) = about("a=rtpmap:").or(about("a=fmtp:")) {
                kept.iter().any(|kept| kept == about)
            } else if let Some(rest) = line.strip_prefix("a=rtcp-fb:* ") {
                // `rtc` knows no wildcard.
                let _ = write!(text, "a=rtcp-fb:{payload_type} {rest}\r\n");
                false
            } else if let Some(about) = about("a=rtcp-fb:") {
                about == payload_type
            } else if role == Role::Publisher {
                self.is_publishers(line)
            } else {
                false
            };
            if keep || MEDIA_LINES.iter().any(|kept| line.starts_with(kept)) {
                text.push_str(line);
                text.push_str("\r\n");
            }
        }
        text.push_str(match role {
            Role::Publisher => "a=sendonly\r\n",
            Role::Viewer => "a=recvonly\r\n",
        });
    }

    /// Lines that tell a publisher's streams apart. Retransmission streams are left out with everything that names
    /// them: they are not negotiated, and a leftover SSRC would be taken for the track's.
    fn is_publishers(&self, line: &str) -> bool {
        if let Some(rest) = line.strip_prefix("a=extmap:") {
            return [MID, RID, TRANSPORT_CC, CAPTURE_TIME]
                .iter()
                .any(|uri| rest.split(' ').nth(1) == Some(uri));
        }
        if let Some(rest) = line.strip_prefix("a=ssrc:") {
            let ssrc = rest.split(' ').next();
            let mut repairs = self.lines.iter().filter_map(|line| line.strip_prefix("a=ssrc-group:FID "));
            return !repairs.any(|group| group.split(' ').nth(1) == ssrc);
        }
        ["a=msid:", "a=rid:", "a=simulcast:"].iter().any(|kept| line.starts_with(kept))
    }
}

/// The session part and each media section, as lines.
fn sections_of<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<Vec<&'a str>> {
    let mut parts = vec![Vec::new()];
    for line in lines {
        if line.starts_with("m=") {
            parts.push(Vec::new());
        }
        parts.last_mut().expect("there is always a last part").push(line);
    }
    parts
}

fn write_lines(text: &mut String, lines: impl IntoIterator<Item = impl AsRef<str>>) {
    for line in lines {
        text.push_str(line.as_ref());
        text.push_str("\r\n");
    }
}

/// Host candidates (RFC 8445, 5.1.2.1): UDP with type preference 126 and a local preference that falls with each address;
/// behind them TCP, where we wait for the client to connect (RFC 6544, 4.2: direction preference 4 of 7).
pub(crate) fn candidates(addresses: &[SocketAddr], tcp_port: Option<u16>) -> String {
    let mut text = String::new();
    for (index, address) in addresses.iter().enumerate() {
        let priority = (126_u32 << 24) | ((65_535 - index as u32) << 8) | 255;
        let (ip, port) = (address.ip(), address.port());
        let _ = write!(text, "a=candidate:{} 1 udp {priority} {ip} {port} typ host\r\n", index + 1);
    }
    for (index, address) in addresses.iter().enumerate() {
        let Some(port) = tcp_port else { break };
        let priority = (90_u32 << 24) | ((4 << 13 | (8_191 - index as u32)) << 8) | 255;
        let (foundation, ip) = (addresses.len() + index + 1, address.ip());
        let _ = write!(
            text,
            "a=candidate:{foundation} 1 tcp {priority} {ip} {port} typ host tcptype passive\r\n"
        );
    }
    text.push_str("a=end-of-candidates\r\n");
    text
}

/// A payload type that RTP packets can have beside RTCP packets on one port (RFC 5761, 4).
fn payload_type(name: &str) -> Option<u8> {
    let number: u8 = name.parse().ok()?;
    (matches!(number, 0..64 | 96..128) && number.to_string() == name).then_some(number)
}

/// The codec that an `a=rtpmap` value names.
fn codec(rtpmap: &str) -> Option<Codec> {
    let mut words = rtpmap.split('/');
    let (name, clock) = (words.next()?, words.next()?);
    Codec::ALL
        .into_iter()
        .find(|codec| codec.name().eq_ignore_ascii_case(name) && codec.clock_rate_hz().to_string() == clock)
}

/// How welcome a publisher's codec is: the more viewers can decode it, the more.
fn publisher_rank(codec: Codec, fmtp: &str) -> Option<u32> {
    Some(match codec {
        Codec::Aac => return None,
        Codec::Opus => 0,
        Codec::H264 => profiles::h264_rank(fmtp)?,
        Codec::Vp8 => 2,
        Codec::Vp9 => 3,
        Codec::Av1 => 4,
        Codec::H265 => 5,
    })
}

fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

#[cfg(test)]
mod tests;
