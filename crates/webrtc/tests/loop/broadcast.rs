//! What a live is: frames that arrive, hosts who leave and return, layers, sound.

use super::*;

#[tokio::test]
async fn viewers_on_two_shards_get_every_frame_intact_from_the_start_of_the_gop() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut first, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut first], "the first viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut first], 0..30, true);

    let (mut second, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut first, &mut second], "the GOP is replayed", |all| {
        all[2].last_whole_frame() == Some(29)
    });
    stream(&mut publisher, &mut [&mut first, &mut second], 30..60, false);
    pump(&mut [&mut publisher, &mut first], "all sound has come", |all| all[1].received(AUDIO).count() == 60);

    for viewer in [&first, &second] {
        assert_eq!(viewer.whole_frames(), (0..60).collect::<Vec<u32>>());
        assert_continuous(viewer);
    }
    let stats = stage.edge.stats();
    assert!(stats.shards.iter().all(|shard| shard.viewers == 1), "one viewer on each shard: {stats:?}");
    let total = stats.total();
    assert_eq!((total.frames_in, total.keyframes_in, total.publishers), (120, 1, 1));
    assert_eq!((total.srtp_errors, total.send_errors, total.packets_lost), (0, 0, 0));
    assert!(total.rtp_packets_out >= 2 * 60 * 4 + 90);
}

#[tokio::test]
async fn the_host_stops_and_returns_and_the_viewers_stay() {
    let mut stage = Stage::new();
    let (mut publisher, host) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    let (mut other, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer, &mut other], "viewers are connected", |all| {
        all[1].connected && all[2].connected
    });
    stream(&mut publisher, &mut [&mut viewer, &mut other], 0..20, true);
    publisher.leave();
    assert_eq!(stage.wait_ended(&host, &mut [&mut viewer, &mut other]), EndReason::PeerClosed);
    assert!(stage.relay.broadcast().is_none());
    let (_, offer) = Client::viewer(&Abilities::default());
    assert!(matches!(stage.offer(Role::Viewer, &offer).await, Err(OfferError::NoBroadcast)));

    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    stream(&mut publisher, &mut [&mut viewer, &mut other], 1_000..1_020, true);
    for viewer in [&viewer, &other] {
        assert_eq!(viewer.whole_frames(), (0..20).chain(1_000..1_020).collect::<Vec<u32>>());
        assert_continuous(viewer);
    }
    assert!(!stage.ended().contains_key(&session));
}

#[tokio::test]
async fn both_families_meet_in_one_live() {
    let mut stage = Stage::new();
    let old = Abilities::default();
    let new = Abilities { ip: Ipv6Addr::LOCALHOST.into(), ..Abilities::default() };
    for (host, watcher) in [(&old, &new), (&new, &old)] {
        let (mut publisher, _) = stage.publisher(host).await;
        let (mut viewer, _) = stage.viewer(watcher).await;
        let (mut other, _) = stage.viewer(host).await;
        pump(&mut [&mut publisher, &mut viewer, &mut other], "both are connected", |all| {
            all[1].connected && all[2].connected
        });
        stream(&mut publisher, &mut [&mut viewer, &mut other], 0..10, true);
        for viewer in [&viewer, &other] {
            assert_eq!(viewer.whole_frames(), (0..10).collect::<Vec<u32>>());
        }
    }
}

#[tokio::test]
async fn a_second_publisher_takes_over() {
    let mut stage = Stage::new();
    let (mut first, session) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut first, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut first, &mut [&mut viewer], 0..10, true);
    let (mut second, _) = stage.publisher(&Abilities::default()).await;
    assert_eq!(stage.wait_ended(&session, &mut [&mut first, &mut second, &mut viewer]), EndReason::Replaced);
    stream(&mut second, &mut [&mut viewer], 500..510, true);
    assert_continuous(&viewer);
}

#[tokio::test]
async fn a_host_that_returns_with_another_codec_ends_the_viewers_who_did_not_negotiate_it() {
    let mut stage = Stage::new();
    let (mut publisher, host) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    publisher.leave();
    stage.wait_ended(&host, &mut [&mut viewer]);
    let h264 = Abilities { video: "H264", ..Abilities::default() };
    let (mut publisher, _) = stage.publisher(&h264).await;
    assert_eq!(stage.wait_ended(&session, &mut [&mut publisher, &mut viewer]), EndReason::CodecChanged);

    let (_, offer) = Client::viewer(&Abilities::default());
    let refused = stage.offer(Role::Viewer, &offer).await;
    assert!(matches!(refused, Err(OfferError::Codec(_))), "{refused:?}");
    let (mut viewer, _) = stage.viewer(&h264).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    for number in 0..5 {
        publisher.send_h264(number, number == 0);
    }
    pump(&mut [&mut publisher, &mut viewer], "pictures come", |all| all[1].received(VIDEO).count() >= 7);
    assert_eq!(viewer.received(VIDEO).next().unwrap().payload[..], [0x67, 0x42, 0xE0, 0x1F]);
}

#[tokio::test]
async fn sound_alone_is_a_broadcast() {
    let mut stage = Stage::new();
    let sound = Abilities { video: "", rtx: false, ..Abilities::default() };
    let (mut publisher, host) = stage.publisher(&sound).await;
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    for number in 0..50 {
        publisher.send_opus(number);
    }
    pump(&mut [&mut publisher, &mut viewer], "sound comes", |all| all[1].received(AUDIO).count() == 50);

    // The host returns with pictures, which this viewer has not negotiated.
    publisher.leave();
    stage.wait_ended(&host, &mut [&mut viewer]);
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    assert_eq!(stage.wait_ended(&session, &mut [&mut publisher, &mut viewer]), EndReason::CodecChanged);
}

#[tokio::test]
async fn layers_as_obs_sends_them_are_told_apart() {
    let mut stage = Stage::new();
    let (mut host, offer) = Client::publisher_of(&Abilities::default(), &["0", "1"]);
    let ssrcs = host.ssrcs(host.video.unwrap());
    let offer = layered(&offer, ssrcs[0]);
    let (_, answer) = stage.offer(Role::Publisher, &offer).await.unwrap();
    assert!(answer.sdp.contains("a=simulcast:recv 0;1"), "{}", answer.sdp);
    host.answer(&answer.sdp);
    pump(&mut [&mut host], "the host is connected", |all| all[0].connected);
    let (mut viewer, session) = stage.viewer(&Abilities::default()).await;
    for number in 1..60 {
        host.send_layer("0", ssrcs[0], number, number % 10 == 1);
        host.send_layer("1", ssrcs[1], number, number % 10 == 1);
        let until = Instant::now() + Duration::from_millis(10);
        pump(&mut [&mut host, &mut viewer], "time passes", |_| Instant::now() >= until);
    }
    let quality = stage.edge.prefer(&session, None).await.unwrap();
    let mut names: Vec<&str> = quality.layers.iter().map(|layer| layer.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["0", "1"]);
    assert_eq!(stage.stats().packets_lost, 0, "each in its own order");
    assert!(viewer.received(VIDEO).count() > 40);
}

#[tokio::test]
async fn many_wishes_for_a_keyframe_reach_the_host_as_few() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    let before = stage.stats().keyframe_requests;
    let media_ssrc = viewer.received(VIDEO).next().unwrap().header.ssrc;
    for _ in 0..20 {
        viewer.send_rtcp(vec![Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc })]);
    }
    pump(&mut [&mut publisher, &mut viewer], "they are taken", |_| stage.stats().plis_in >= 20);
    let mut number = 5;
    pump(&mut [&mut publisher, &mut viewer], "one is passed on", |all| {
        all[0].send_vp8(number, false);
        number += 1;
        stage.stats().keyframe_requests > before
    });
    assert!(stage.stats().keyframe_requests - before <= 2, "{:?}", stage.stats());
}

#[tokio::test]
async fn viewers_learn_which_sound_belongs_to_which_picture() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    let ntp = 0xE000_0000_u64 << 32;
    let ssrc = publisher.video_ssrc();
    // Frame 4 was made at `ntp` by the host's clock.
    let report = SenderReport { ssrc, ntp_time: ntp, rtp_time: 4 * 3_000, ..SenderReport::default() };
    publisher.send_rtcp(vec![Box::new(report)]);
    let report_in = |packets: &[Box<dyn rtcp::Packet>]| {
        packets.iter().find_map(|packet| packet.as_any().downcast_ref::<SenderReport>().cloned())
    };
    pump(&mut [&mut publisher, &mut viewer], "a report comes", |all| report_in(&all[1].rtcp()).is_some());
    let report = report_in(&viewer.rtcp()).unwrap();
    let frame = viewer.received(VIDEO).find(|packet| packet.payload[7..11] == 4_u32.to_be_bytes()).unwrap();
    assert_eq!(report.ssrc, frame.header.ssrc);
    // The same instant by the host's clock, carried forward by the time since: both must have moved as far.
    let seconds = (report.ntp_time - ntp) as f64 / f64::from(u32::MAX);
    let ticks = report.rtp_time.wrapping_sub(frame.header.timestamp);
    assert!(seconds < PATIENCE.as_secs_f64());
    assert!((f64::from(ticks) - seconds * 90_000.0).abs() < 90.0, "{ticks} ticks in {seconds} s");
}
