//! Codecs' parameters: which of a viewer's formats can decode what a host sends.

use haul_model::{Codec, TrackInfo};

use super::parameter;

/// H.264's profiles (ITU-T H.264, A.2), by the number in `profile-level-id`.
const BASELINE: u8 = 66;
const MAIN: u8 = 77;
const EXTENDED: u8 = 88;
const HIGH: u8 = 100;

/// How well a viewer's format with these parameters decodes `track`; `None` if it does not.
pub(super) fn viewer_rank(track: &TrackInfo, codec: Codec, fmtp: &str) -> Option<u32> {
    if codec != track.codec {
        return None;
    }
    let number = |fmtp, name| parameter(fmtp, name).and_then(|value| value.parse::<u32>().ok());
    match codec {
        Codec::Aac => None,
        Codec::Opus | Codec::Vp8 => Some(0),
        Codec::H264 => Some(10 * h264_rank(fmtp)? + h264_profile_rank(fmtp, &track.fmtp)?),
        // Profiles 1 to 3 are other sample formats, and a decoder of one need not know the others (RFC 9628, 6).
        Codec::Vp9 => {
            let profile = |fmtp| number(fmtp, "profile-id").unwrap_or(0);
            (profile(fmtp) == profile(&track.fmtp)).then_some(0)
        }
        // Each profile's decoder knows those below it (AV1 specification, annex A.2).
        Codec::Av1 => {
            let profile = |fmtp| number(fmtp, "profile").unwrap_or(0);
            profile(fmtp).checked_sub(profile(&track.fmtp))
        }
        // Main 10 includes Main, and the high tier the main tier (ITU-T H.265, A.3 and A.4; RFC 7798, 7.1).
        Codec::H265 => {
            let profile = |fmtp| number(fmtp, "profile-id").unwrap_or(1);
            let tier = |fmtp| number(fmtp, "tier-flag").unwrap_or(0);
            let further = tier(fmtp).checked_sub(tier(&track.fmtp))?;
            match (profile(fmtp), profile(&track.fmtp)) {
                (theirs, hosts) if theirs == hosts => Some(further),
                (2, 1) => Some(2 + further),
                _ => None,
            }
        }
    }
}

/// A track's codec as an error names it, with its profile where that is not the usual one.
pub(super) fn name(track: &TrackInfo) -> String {
    let name = track.codec.name();
    let parameters: &[(&str, &str)] = match track.codec {
        Codec::Opus | Codec::Aac | Codec::Vp8 => &[],
        Codec::H264 => &[("profile-level-id", "")],
        Codec::Vp9 => &[("profile-id", "0")],
        Codec::Av1 => &[("profile", "0")],
        Codec::H265 => &[("profile-id", "1"), ("tier-flag", "0")],
    };
    let told = parameters.iter().filter_map(|(key, usual)| {
        let value = parameter(&track.fmtp, key).filter(|value| value != usual)?;
        Some(format!(" {key}={value}"))
    });
    std::iter::once(name.to_owned()).chain(told).collect()
}

/// How welcome H.264 with these parameters is. Packetization mode 1 is needed; GStreamer does not mention it, and does
/// it.
pub(super) fn h264_rank(fmtp: &str) -> Option<u32> {
    match parameter(fmtp, "packetization-mode") {
        Some("1") => Some(0),
        None => Some(1),
        Some(_) => None,
    }
}

/// The same profile is best, levels aside; then one that includes it. From Baseline to High anything will do in the
/// end: all browsers decode these whatever they name (Firefox names Baseline only), and would miss OBS's High otherwise.
fn h264_profile_rank(viewers: &str, hosts: &str) -> Option<u32> {
    let (viewer, host) = (h264_profile(viewers), h264_profile(hosts));
    let usual = |profile| matches!(profile, BASELINE | MAIN | EXTENDED | HIGH);
    match (viewer, host) {
        (viewer, host) if viewer == host => Some(0),
        ((viewer, _), (host, _)) if viewer == host && !usual(host) => Some(1),
        ((viewer, _), (host, _)) if !usual(viewer) || !usual(host) => None,
        ((viewer, _), (host, _)) => Some(if viewer >= host { 1 } else { 2 }),
    }
}

/// The profile and its constraints; Constrained Baseline where nothing is told (RFC 6184, 8.1, is stricter than anybody).
fn h264_profile(fmtp: &str) -> (u8, u8) {
    let told = parameter(fmtp, "profile-level-id").and_then(|id| {
        let byte = |range| u8::from_str_radix(id.get(range)?, 16).ok();
        Some((byte(0..2)?, byte(2..4)?))
    });
    told.unwrap_or((BASELINE, 0xE0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(codec: Codec, host: &str, viewer: &str) -> Option<u32> {
        viewer_rank(&TrackInfo { codec, fmtp: host.to_owned() }, codec, viewer)
    }

    #[test]
    fn viewers_decode_their_own_profile_and_what_it_includes() {
        let cases = [
            (Codec::Vp9, "", "profile-id=0", true),
            (Codec::Vp9, "profile-id=2", "profile-id=0", false),
            (Codec::Av1, "level-idx=5;profile=0;tier=0", "", true),
            (Codec::Av1, "profile=1", "profile=0", false),
            (Codec::Av1, "profile=0", "profile=1", true),
            (Codec::H265, "profile-id=1", "level-id=93;tx-mode=SRST", true),
            (Codec::H265, "profile-id=2", "profile-id=1", false),
            (Codec::H265, "profile-id=1;tier-flag=1", "profile-id=1;tier-flag=0", false),
            (Codec::H265, "profile-id=1", "profile-id=2", true),
            (
                Codec::H264,
                "packetization-mode=1;profile-level-id=640c1f",
                "packetization-mode=1;profile-level-id=42e01f",
                true,
            ),
            (Codec::H264, "profile-level-id=6e001f", "packetization-mode=1;profile-level-id=42e01f", false),
            (Codec::H264, "profile-level-id=f4001f", "packetization-mode=1;profile-level-id=f40020", true),
            (Codec::H264, "", "packetization-mode=0", false),
        ];
        for (codec, host, viewer, decodes) in cases {
            assert_eq!(rank(codec, host, viewer).is_some(), decodes, "{codec:?}: {host} for {viewer}");
        }
    }

    #[test]
    fn the_nearest_h264_profile_is_best() {
        let ranks = ["64001f", "640c1f", "4d001f", "42e01f"].map(|viewer| {
            rank(
                Codec::H264,
                "profile-level-id=640c1f",
                &format!("packetization-mode=1;profile-level-id={viewer}"),
            )
        });
        assert_eq!(ranks, [Some(1), Some(0), Some(2), Some(2)]);
        let ranks = ["42001f", "4d001f", "64001f", "42e01f"].map(|viewer| {
            rank(
                Codec::H264,
                "profile-level-id=42e02a",
                &format!("packetization-mode=1;profile-level-id={viewer}"),
            )
        });
        assert_eq!(ranks, [Some(1), Some(1), Some(1), Some(0)]);
    }

    #[test]
    fn errors_name_an_unusual_profile() {
        let named = |codec, fmtp: &str| name(&TrackInfo { codec, fmtp: fmtp.to_owned() });
        assert_eq!(named(Codec::Vp9, "profile-id=2"), "VP9 profile-id=2");
        assert_eq!(named(Codec::Vp9, "profile-id=0"), "VP9");
        assert_eq!(named(Codec::H264, "profile-level-id=6e001f"), "H264 profile-level-id=6e001f");
    }
}
