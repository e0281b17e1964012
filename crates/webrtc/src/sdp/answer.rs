//! Answers to viewers, who are sent what the host sends and send nothing themselves: written from what was kept of their
//! offer. ([`Offer::complete`] adds what is the same for hosts.)

use std::fmt::Write as _;

use haul_model::Codec;

use super::{ANY_PORT, Format, Offer, sections_of};
use crate::{sdpfrag::Credentials, viewer::Ssrcs};

/// The media stream that a viewer's tracks belong to, so that players keep them in sync. Also their CNAME.
pub(crate) const STREAM: &str = "haul";

/// What we say of ourselves.
pub(crate) struct Ourselves<'a> {
    /// Our half of the ICE session.
    pub(crate) credentials: &'a Credentials,
    /// Our certificate's: the name of the hash, and its value.
    pub(crate) fingerprint: &'a str,
    pub(crate) ssrcs: Ssrcs,
}

impl Offer {
    /// The answer to a viewer's offer, less what [`Offer::complete`] adds.
    pub(crate) fn answer_viewer(&self, ours: &Ourselves<'_>) -> String {
        let mut parts = sections_of(self.sdp.lines());
        let session = parts.remove(0);
        let Ssrcs { video, rtx, audio } = ours.ssrcs;
        let mut text = String::with_capacity(self.sdp.len() + 1_024);
        // RFC 9429, 5.3.1: a session id of 63 bits. Three SSRCs differ between any two sessions.
        let id = u64::from(video >> 1) << 32 | u64::from(audio);
        let _ = write!(text, "v=0\r\no=- {id} 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
        let _ = write!(text, "a=fingerprint:{}\r\na=ice-lite\r\n", ours.fingerprint);
        for line in &session {
            if line.starts_with("a=group:BUNDLE") || line.starts_with("a=extmap-allow-mixed") {
                let _ = write!(text, "{line}\r\n");
            }
        }
        for lines in &parts {
            let is_video = lines[0].starts_with("m=video");
            let (format, ssrc, name) = match is_video {
                true => (&self.video, video, "video"),
                false => (&self.audio, audio, "audio"),
            };
            let Some(format) = format else { continue };
            let protocol = lines[0].split(' ').nth(2).unwrap_or("UDP/TLS/RTP/SAVPF");
            let _ = write!(text, "m={name} {ANY_PORT} {protocol} {}", format.payload_type);
            if let Some(rtx) = format.rtx {
                let _ = write!(text, " {rtx}");
            }
            text.push_str("\r\nc=IN IP4 0.0.0.0\r\n");
            let setup = if self.we_connect { "active" } else { "passive" };
            let Credentials { ufrag, password } = ours.credentials;
            let _ = write!(text, "a=setup:{setup}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\n");
            for line in lines {
                if ["a=mid:", "a=rtcp-mux", "a=rtcp-rsize"].iter().any(|kept| line.starts_with(kept)) {
                    let _ = write!(text, "{line}\r\n");
                }
            }
            format.write_codec(&mut text, lines);
            let _ = write!(text, "a=msid:{STREAM} {name}\r\n");
            let repairs = format.rtx.map(|_| rtx);
            if let Some(rtx) = repairs {
                let _ = write!(text, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
            }
            for ssrc in std::iter::once(ssrc).chain(repairs) {
                let _ =
                    write!(text, "a=ssrc:{ssrc} cname:{STREAM}\r\na=ssrc:{ssrc} msid:{STREAM} {name}\r\n");
            }
            text.push_str("a=sendonly\r\n");
        }
        text
    }
}

impl Format {
    /// The codec, its parameters as the offer has them, its retransmission stream, and the feedback on it that we take
    /// of what the offer's section, `lines`, has.
    fn write_codec(&self, text: &mut String, lines: &[&str]) {
        let (payload_type, name, clock) = (self.payload_type, self.codec.name(), self.codec.clock_rate_hz());
        let channels = if self.codec == Codec::Opus { "/2" } else { "" };
        let _ = write!(text, "a=rtpmap:{payload_type} {name}/{clock}{channels}\r\n");
        if !self.fmtp.is_empty() {
            let _ = write!(text, "a=fmtp:{payload_type} {}\r\n", self.fmtp);
        }
        let prefix = format!("a=rtcp-fb:{payload_type} ");
        for feedback in ["nack", "nack pli", "ccm fir"] {
            if lines.iter().any(|line| line.strip_prefix(&prefix) == Some(feedback)) {
                let _ = write!(text, "{prefix}{feedback}\r\n");
            }
        }
        if let Some(rtx) = self.rtx {
            let _ = write!(text, "a=rtpmap:{rtx} rtx/{clock}\r\na=fmtp:{rtx} apt={payload_type}\r\n");
        }
    }
}
