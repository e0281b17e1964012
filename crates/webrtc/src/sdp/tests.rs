//! Offers as real clients make them, shortened.

use super::*;
use crate::viewer::Ssrcs;

const CHROMIUM_PUBLISHER: &str = "v=0\r
o=- 4611731400430051336 2 IN IP4 127.0.0.1\r
s=-\r
t=0 0\r
a=group:BUNDLE 0 1 2\r
a=extmap-allow-mixed\r
a=msid-semantic: WMS stream\r
m=audio 9 UDP/TLS/RTP/SAVPF 111 63\r
c=IN IP4 0.0.0.0\r
a=rtcp:9 IN IP4 0.0.0.0\r
a=ice-ufrag:abcd\r
a=ice-pwd:0123456789012345678901\r
a=ice-options:trickle\r
a=fingerprint:sha-256 AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA\r
a=setup:actpass\r
a=mid:0\r
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=sendonly\r
a=rtcp-mux\r
a=rtpmap:111 opus/48000/2\r
a=rtcp-fb:111 transport-cc\r
a=fmtp:111 minptime=10;useinbandfec=1\r
a=rtpmap:63 red/48000/2\r
a=fmtp:63 111/111\r
a=ssrc:11 cname:x\r
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 106\r
c=IN IP4 0.0.0.0\r
a=ice-ufrag:abcd\r
a=ice-pwd:0123456789012345678901\r
a=fingerprint:sha-256 AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA\r
a=setup:actpass\r
a=mid:1\r
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r
a=extmap:3 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r
a=sendonly\r
a=rtcp-mux\r
a=rtpmap:96 VP8/90000\r
a=rtcp-fb:96 nack\r
a=rtpmap:97 rtx/90000\r
a=fmtp:97 apt=96\r
a=rtpmap:102 H264/90000\r
a=rtcp-fb:102 nack pli\r
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f\r
a=rtpmap:103 H264/90000\r
a=rtcp-fb:103 nack pli\r
a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r
a=rtpmap:106 rtx/90000\r
a=fmtp:106 apt=103\r
a=ssrc-group:FID 21 22\r
a=ssrc:21 cname:x\r
a=ssrc:22 cname:x\r
a=candidate:1 1 udp 2130706431 10.0.0.2 5000 typ host\r
m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 0.0.0.0\r
a=mid:2\r
";

fn viewer_offer() -> String {
    CHROMIUM_PUBLISHER.replace("a=sendonly", "a=recvonly")
}

fn broadcast(codec: Codec, fmtp: &str) -> Broadcast {
    Broadcast {
        video: Some(TrackInfo { codec, fmtp: fmtp.to_owned() }),
        audio: Some(TrackInfo { codec: Codec::Opus, fmtp: String::new() }),
        ..Broadcast::default()
    }
}

#[test]
fn a_publisher_gets_h264_with_packetization_mode_1_and_no_retransmission_stream() {
    let offer = Offer::from_publisher(CHROMIUM_PUBLISHER).unwrap();
    let video = offer.video.unwrap();
    assert_eq!((video.codec, video.payload_type, video.rtx), (Codec::H264, 103, None));
    assert_eq!(offer.audio.unwrap().payload_type, 111);
    assert!(!offer.we_connect);
    for kept in ["m=video 9 UDP/TLS/RTP/SAVPF 103\r\n", "a=ssrc:21", "a=extmap:3 ", "a=group:BUNDLE 0 1\r\n"]
    {
        assert!(offer.sdp.contains(kept), "{kept} is missing in\n{}", offer.sdp);
    }
    for dropped in
        ["apt=", "a=ssrc:22", "FID", "candidate", "audio-level", "VP8", "red/", "webrtc-datachannel"]
    {
        assert!(!offer.sdp.contains(dropped), "{dropped} is left in\n{}", offer.sdp);
    }
}

#[test]
fn of_many_codecs_the_one_that_most_can_decode_is_taken_and_a_single_one_as_it_is() {
    // As the last of the video codecs, VP8 is what is left; in its place comes another.
    let offer = CHROMIUM_PUBLISHER.replace("H264/", "other/");
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::H265] {
        let only = offer.replace("VP8/", &format!("{}/", codec.name()));
        assert_eq!(Offer::from_publisher(&only).unwrap().video.unwrap().codec, codec);
    }
    let two = offer.replace("other/", "VP9/").replace("VP8/", "AV1/");
    assert_eq!(
        Offer::from_publisher(&two).unwrap().video.unwrap().codec,
        Codec::Vp9,
        "although listed later"
    );
    let none = offer.replace("VP8/", "other/");
    let error = Offer::from_publisher(&none).unwrap_err().to_string();
    assert!(error.contains("H264, VP8, VP9, AV1 or H265"), "{error}");
}

#[test]
fn a_publishers_feedback_and_capture_times_are_found() {
    let told = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    let offer = CHROMIUM_PUBLISHER
        .replace("a=rtcp-fb:103 nack pli", "a=rtcp-fb:103 nack\r\na=rtcp-fb:103 nack pli")
        .replace("a=extmap:3 ", &format!("a=extmap:9/sendonly {told}\r\na=extmap:3 "));
    let read = Offer::from_publisher(&offer).unwrap();
    assert_eq!((read.nack, read.capture_time), (true, Some(9)));
    assert!(read.sdp.contains(told), "{}", read.sdp);
    let read = Offer::from_publisher(CHROMIUM_PUBLISHER).unwrap();
    assert_eq!((read.nack, read.capture_time), (false, None), "its H.264 takes PLI only");
}

#[test]
fn a_viewers_answer_tells_the_hosts_parameters_for_sound() {
    let mut sent = broadcast(Codec::Vp8, "");
    sent.audio.as_mut().unwrap().fmtp = "minptime=10;stereo=1;useinbandfec=1".to_owned();
    let offer = Offer::from_viewer(&viewer_offer(), &sent).unwrap();
    let answer = offer.complete(&offer.sdp, "");
    assert!(answer.contains("a=fmtp:111 minptime=10;stereo=1;useinbandfec=1\r\n"), "{answer}");
    assert_eq!(answer.matches("a=fmtp:111 ").count(), 1);
}

#[test]
fn a_viewer_without_the_hosts_profile_is_told_which() {
    let offer = viewer_offer().replace("VP8/", "VP9/");
    let error = Offer::from_viewer(&offer, &broadcast(Codec::Vp9, "profile-id=2")).unwrap_err();
    assert!(matches!(&error, OfferError::Codec(needed) if needed == "VP9 profile-id=2"), "{error}");
    assert!(Offer::from_viewer(&offer, &broadcast(Codec::Vp9, "profile-id=0")).is_ok());
}

#[test]
fn a_publisher_without_h264_gets_vp8() {
    let offer = Offer::from_publisher(&CHROMIUM_PUBLISHER.replace("H264/", "H265/")).unwrap();
    assert_eq!(offer.video.unwrap().codec, Codec::Vp8);
}

#[test]
fn h264_without_parameters_is_welcome() {
    let bare: String = CHROMIUM_PUBLISHER
        .lines()
        .filter(|line| !line.starts_with("a=fmtp:10"))
        .flat_map(|line| [line, "\r\n"])
        .collect();
    let video = Offer::from_publisher(&bare).unwrap().video.unwrap();
    assert_eq!((video.codec, video.payload_type), (Codec::H264, 102));
}

#[test]
fn a_viewer_gets_the_hosts_codec_with_retransmission_and_nothing_to_send_by() {
    let offer = Offer::from_viewer(&viewer_offer(), &broadcast(Codec::Vp8, "")).unwrap();
    let video = offer.video.unwrap();
    assert_eq!((video.codec, video.payload_type, video.rtx), (Codec::Vp8, 96, Some(97)));
    assert!(offer.sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"));
    assert!(!offer.sdp.contains("a=ssrc") && !offer.sdp.contains("a=extmap:"), "{}", offer.sdp);
}

#[test]
fn a_viewer_gets_the_extensions_and_the_feedback_that_it_offers() {
    let answer = |text: &str| {
        let offer = Offer::from_viewer(text, &broadcast(Codec::Vp8, "")).unwrap();
        let rtc = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\n";
        (offer.gives_feedback(), offer.complete(rtc, ""))
    };
    let (feedback, text) = answer(&viewer_offer());
    assert!(!feedback && !text.contains("extmap"), "an extension without its feedback is of no use: {text}");

    let remb = viewer_offer().replace("a=rtcp-fb:96 nack", "a=rtcp-fb:96 goog-remb");
    assert!(answer(&remb).1.contains("a=rtcp-fb:96 goog-remb\r\n"));

    let capture = format!(
        "a=extmap:15 urn:other\r\na=extmap:9/recvonly {CAPTURE_TIME}\r\na=extmap:10 {PLAYOUT_DELAY}\r\na=rtpmap:96"
    );
    let offer = remb
        .replace("a=rtpmap:96", &capture)
        .replace("a=rtpmap:97", "a=rtcp-fb:* transport-cc\r\na=rtpmap:97");
    let (feedback, text) = answer(&offer);
    let (_, video) = text.split_once("m=video").unwrap();
    assert!(feedback);
    for line in [
        &format!("a=extmap:3 {TRANSPORT_CC}"),
        &format!("a=extmap:9 {CAPTURE_TIME}"),
        &format!("a=extmap:10 {PLAYOUT_DELAY}"),
        "a=rtcp-fb:96 transport-cc",
    ] {
        assert!(video.contains(&format!("{line}\r\n")), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("goog-remb"), "{text}");
    let (_, text) = answer(&offer.replace("a=extmap:3 ", "a=extmap:15 "));
    assert!(!text.contains("transport"), "an id that needs two bytes is left out: {text}");
}

#[test]
fn a_viewers_profile_follows_the_hosts() {
    let offer = viewer_offer()
        .replace("profile-level-id=42e01f\r\na=rtpmap:106", "profile-level-id=640c34\r\na=rtpmap:106");
    let more = offer.replace("102 103 106", "102 103 106 107").replace(
        "a=rtpmap:106",
        "a=rtpmap:107 H264/90000\r\na=fmtp:107 packetization-mode=1;profile-level-id=42E034\r\na=rtpmap:106",
    );
    let chosen = |fmtp: &str| {
        Offer::from_viewer(&more, &broadcast(Codec::H264, fmtp)).unwrap().video.unwrap().payload_type
    };
    assert_eq!(chosen("packetization-mode=1;profile-level-id=42e01f"), 107, "same profile, other level");
    assert_eq!(chosen("packetization-mode=1;profile-level-id=4d001f"), 103, "none has it: the first");
}

#[test]
fn a_viewer_who_cannot_decode_the_host_is_told_what_is_needed() {
    let error = Offer::from_viewer(&viewer_offer().replace("VP8/", "VP9/"), &broadcast(Codec::Vp8, ""));
    assert!(matches!(error, Err(OfferError::Codec(_))), "{error:?}");
}

#[test]
fn sections_of_no_use_are_turned_down_in_their_places() {
    let sound_only = Broadcast { video: None, ..broadcast(Codec::Vp8, "") };
    let offer = Offer::from_viewer(&viewer_offer(), &sound_only).unwrap();
    assert!(offer.video.is_none());
    let answer = "v=0\r\ns=-\r\na=ice-lite\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=candidate:9 1 udp 1 1.1.1.1 1 typ host\r\n";
    let addresses = ["10.0.0.1:7000".parse().unwrap(), "127.0.0.1:7000".parse().unwrap()];
    let complete = offer.complete(answer, &candidates(&addresses, Some(7443)));
    let heads: Vec<&str> = complete.lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(
        heads,
        [
            "m=audio 9 UDP/TLS/RTP/SAVPF 111",
            "m=video 0 UDP/TLS/RTP/SAVPF 96",
            "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"
        ]
    );
    let candidates: Vec<&str> = complete.lines().filter(|line| line.starts_with("a=candidate:")).collect();
    assert_eq!(
        candidates,
        [
            "a=candidate:1 1 udp 2130706431 10.0.0.1 7000 typ host",
            "a=candidate:2 1 udp 2130706175 127.0.0.1 7000 typ host",
            "a=candidate:3 1 tcp 1520435199 10.0.0.1 7443 typ host tcptype passive",
            "a=candidate:4 1 tcp 1520434943 127.0.0.1 7443 typ host tcptype passive"
        ]
    );
}

#[test]
fn the_first_section_of_a_bundle_carries_the_transport_though_nothing_else() {
    let silent = Broadcast { audio: None, ..broadcast(Codec::Vp8, "") };
    let offer = Offer::from_viewer(&viewer_offer(), &silent).unwrap();
    let answer = "v=0\r\ns=-\r\na=ice-lite\r\na=group:BUNDLE 1\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n\
        a=setup:passive\r\na=mid:1\r\na=ice-ufrag:ours\r\na=ice-pwd:secret\r\na=sendonly\r\n";
    let complete = offer.complete(answer, &candidates(&["10.0.0.1:7000".parse().unwrap()], None));
    assert!(complete.contains("a=group:BUNDLE 0 1\r\n"), "{complete}");
    let (sound, pictures) = complete.split_once("m=video 9 ").unwrap();
    let (_, sound) = sound.split_once("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n").unwrap();
    for line in
        ["a=mid:0", "a=inactive", "a=rtcp-mux", "a=setup:passive", "a=ice-ufrag:ours", "a=ice-pwd:secret"]
    {
        assert!(sound.contains(&format!("{line}\r\n")), "{line} in {sound}");
    }
    assert!(sound.contains("a=candidate:"), "Chromium looks here");
    assert!(pictures.contains("a=candidate:"), "others look where media is");

    // One that the client turned down itself is in no bundle, and data channels are not for us to accept.
    for (from, to) in
        [("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 1"), ("a=group:BUNDLE 0 1 2", "a=group:BUNDLE 2 1")]
    {
        let offer = Offer::from_viewer(&viewer_offer().replace(from, to), &silent).unwrap();
        assert!(offer.complete(answer, "").contains("m=audio 0 "), "{to}");
        assert!(offer.complete(answer, "").contains("m=application 0 "), "{to}");
    }
}

#[test]
fn sections_of_several_transports_are_refused() {
    for group in ["", "a=group:BUNDLE 0\r\n"] {
        let offer = CHROMIUM_PUBLISHER.replace("a=group:BUNDLE 0 1 2\r\n", group);
        assert!(matches!(Offer::from_publisher(&offer), Err(OfferError::Shape(_))), "{group:?}");
    }
    let sound = &CHROMIUM_PUBLISHER[..CHROMIUM_PUBLISHER.find("m=video").unwrap()];
    let sound = sound.replace("a=group:BUNDLE 0 1 2\r\n", "");
    assert!(Offer::from_publisher(&sound).is_ok(), "one section needs no bundle");
}

#[test]
fn a_bundled_section_that_names_no_transport_has_that_of_the_group() {
    // RFC 8843, 7.1.3: what is `bundle-only` leaves it to the first section of the group, whatever becomes of that.
    let (sound, pictures) = CHROMIUM_PUBLISHER.split_once("m=video 9 ").unwrap();
    let pictures =
        ["a=ice-ufrag:abcd\r\n", "a=ice-pwd:0123456789012345678901\r\n", "a=fingerprint:sha-256 AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA\r\n"]
            .iter()
            .fold(pictures.replace("a=setup:actpass\r\n", ""), |text, line| text.replace(line, ""))
            .replace("a=mid:1\r\n", "a=mid:1\r\na=bundle-only\r\n");
    let offer = format!("{sound}m=video 0 {pictures}").replace("a=sendonly", "a=recvonly");
    let silent = Broadcast { audio: None, ..broadcast(Codec::Vp8, "") };
    for broadcast in [silent, broadcast(Codec::Vp8, "")] {
        let offer = Offer::from_viewer(&offer, &broadcast).unwrap();
        assert_eq!(offer.credentials().ufrag, "abcd");
        assert_eq!(offer.credentials().password, "0123456789012345678901");
        for line in [
            "a=fingerprint:sha-256 AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA:AA\r\n",
            "a=setup:actpass\r\n",
        ] {
            assert!(offer.sdp.contains(line), "{}", offer.sdp);
        }
    }
}

#[test]
fn a_publisher_is_not_accepted_in_part() {
    let no_opus = CHROMIUM_PUBLISHER.replace("opus/48000/2", "PCMU/8000");
    assert!(matches!(Offer::from_publisher(&no_opus), Err(OfferError::Codec(_))));
    let unused = no_opus.replace("m=audio 9", "m=audio 0");
    assert!(Offer::from_publisher(&unused).is_ok(), "a section that the client turned down itself is none");
    let inactive = no_opus.replacen("a=sendonly", "a=inactive", 1);
    assert!(Offer::from_publisher(&inactive).is_ok());
    let video = &CHROMIUM_PUBLISHER
        [CHROMIUM_PUBLISHER.find("m=video").unwrap()..CHROMIUM_PUBLISHER.find("m=application").unwrap()];
    let two = format!("{CHROMIUM_PUBLISHER}{}", video.replace("a=mid:1", "a=mid:3"));
    assert!(matches!(Offer::from_publisher(&two), Err(OfferError::Shape(_))));
}

#[test]
fn a_client_that_wants_to_be_called_is_called() {
    let offer = Offer::from_publisher(&CHROMIUM_PUBLISHER.replace("actpass", "passive")).unwrap();
    assert!(offer.we_connect);
}

#[test]
fn what_is_no_offer_is_malformed() {
    for text in ["", "hello", "v=0\r\n", "v=0\r\nm=video\r\n", "m=video 9 UDP 96\r\nv=0"] {
        assert!(matches!(Offer::from_publisher(text), Err(OfferError::Malformed(_))), "{text:?}");
    }
    let cases = [
        ("a=fingerprint:", "a=fingerprint-:"),
        ("a=ice-ufrag:", "a=-:"),
        ("m=video 9 UDP/TLS/RTP/SAVPF 96 97 102 103 106", "m=video"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
        ("a=fingerprint:sha-256", "a=fingerprint:sha-512"),
        ("sha-256 AA:AA", "sha-256 AA:G0"),
        ("a=setup:actpass", "a=setup:holdconn"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:abc"),
        ("a=ice-ufrag:abcd", "a=ice-ufrag:ab:cd"),
        ("a=ice-pwd:0123456789012345678901", "a=ice-pwd:0123"),
        ("a=mid:1\r\n", "a=mid:0\r\n"),
        ("a=ssrc:21 cname:x\r\n", "a=rid:h send\r\na=rid:h send\r\n"),
    ];
    for (from, to) in cases {
        let text = CHROMIUM_PUBLISHER.replace(from, to);
        assert!(matches!(Offer::from_publisher(&text), Err(OfferError::Malformed(_))), "{from}");
    }
    assert!(matches!(Offer::from_publisher(&"v=0\r\n".repeat(20_000)), Err(OfferError::TooLarge)));
}

#[test]
fn media_comes_encrypted_and_by_one_port_with_its_rtcp() {
    for (from, to) in [("UDP/TLS/RTP/SAVPF", "RTP/AVP"), ("a=rtcp-mux\r\n", "")] {
        let text = CHROMIUM_PUBLISHER.replace(from, to);
        assert!(matches!(Offer::from_publisher(&text), Err(OfferError::Shape(_))), "{from}");
    }
}

#[test]
fn payload_types_that_rtcp_or_another_codec_has_are_not_taken() {
    let renumbered = |number: &str| {
        let lines = CHROMIUM_PUBLISHER.replace("SAVPF 111", &format!("SAVPF {number}"));
        lines.replace(":111 ", &format!(":{number} "))
    };
    assert_eq!(Offer::from_publisher(&renumbered("35")).unwrap().audio.unwrap().payload_type, 35);
    for number in ["72", "95", "128", "200"] {
        let refused = Offer::from_publisher(&renumbered(number));
        assert!(matches!(refused, Err(OfferError::Codec(_))), "{number}: {refused:?}");
    }
    let shared = Offer::from_publisher(&renumbered("103"));
    assert!(matches!(shared, Err(OfferError::Malformed(_))), "{shared:?}");
}

#[test]
fn bent_offers_do_not_panic() {
    let bytes = CHROMIUM_PUBLISHER.as_bytes();
    for at in 0..bytes.len() {
        let _ = Offer::from_publisher(&CHROMIUM_PUBLISHER[..at]);
        let mut bent = bytes.to_vec();
        bent[at] = b" :\n0m="[at % 6];
        let _ = Offer::from_publisher(std::str::from_utf8(&bent).unwrap());
        let _ = Offer::from_viewer(std::str::from_utf8(&bent).unwrap(), &broadcast(Codec::H264, ""));
    }
}

#[test]
fn a_viewer_is_answered_with_what_it_will_be_sent() {
    let credentials = Credentials { ufrag: "ours".to_owned(), password: "secret".to_owned() };
    let ourselves = Ourselves {
        credentials: &credentials,
        fingerprint: "sha-256 CC:DD",
        ssrcs: Ssrcs { video: 21, rtx: 22, audio: 23 },
    };
    let answer = |offer: &str| {
        let offer = Offer::from_viewer(offer, &broadcast(Codec::Vp8, "")).unwrap();
        offer.complete(&offer.answer_viewer(&ourselves), "a=candidate:1\r\n")
    };
    let text = answer(&viewer_offer());
    let (session, rest) = text.split_once("m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n").unwrap();
    let (audio, rest) = rest.split_once("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n").unwrap();
    let (video, rest) = rest.split_once("m=application 0 ").unwrap();
    let has = |part: &str, lines: &[&str]| {
        for line in lines {
            assert_eq!(part.lines().filter(|other| other == line).count(), 1, "{line} in\n{part}");
        }
    };
    has(session, &["s=-", "a=ice-lite", "a=fingerprint:sha-256 CC:DD", "a=group:BUNDLE 0 1"]);
    let transport = ["a=setup:passive", "a=ice-ufrag:ours", "a=ice-pwd:secret", "a=rtcp-mux", "a=sendonly"];
    has(audio, &transport);
    has(audio, &["a=mid:0", "a=rtpmap:111 opus/48000/2", "a=ssrc:23 cname:haul", "a=msid:haul audio"]);
    has(audio, &["a=fmtp:111 minptime=10;useinbandfec=1", "a=candidate:1"]);
    has(video, &transport);
    has(video, &["a=mid:1", "a=rtpmap:96 VP8/90000", "a=rtcp-fb:96 nack", "a=msid:haul video"]);
    has(
        video,
        &["a=rtpmap:97 rtx/90000", "a=fmtp:97 apt=96", "a=ssrc-group:FID 21 22", "a=ssrc:22 cname:haul"],
    );
    assert!(!video.contains("candidate") && !video.contains("nack pli"), "not offered: {video}");
    assert!(rest.contains("a=mid:2"));

    let text = answer(&viewer_offer().replace("a=setup:actpass", "a=setup:passive"));
    assert_eq!(text.matches("a=setup:active\r\n").count(), 2, "who insists on being called is called");
    let plain = viewer_offer().replace("97 apt=96", "97 apt=98");
    assert!(!answer(&plain).contains("FID"), "no retransmission stream where none is offered");
}
