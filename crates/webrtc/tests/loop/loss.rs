//! What is lost on the way, and what is done about it.

use super::*;

#[tokio::test]
async fn a_lost_packet_is_asked_for_and_comes_again_with_and_without_rtx() {
    for rtx in [true, false] {
        let mut stage = Stage::new();
        let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
        let (mut viewer, _) = stage.viewer(&Abilities { rtx, ..Abilities::default() }).await;
        pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
        stream(&mut publisher, &mut [&mut viewer], 0..5, true);
        viewer.loss = Some(each_once(7));
        send(&mut publisher, &mut [&mut viewer], 5..30, false);
        // The loss of a last packet shows only by the next.
        viewer.loss = None;
        stream(&mut publisher, &mut [&mut viewer], 30..32, false);
        pump(&mut [&mut publisher, &mut viewer], "all frames are whole", |all| {
            all[1].whole_frames() == (0..32).collect::<Vec<u32>>()
        });
        let stats = stage.stats();
        assert!(stats.resends >= 10, "rtx: {rtx}, {stats:?}");
        assert_eq!(stats.resend_misses, 0, "rtx: {rtx}");
    }
}

/// Loses every packet of the pictures whose sequence number is a multiple of `divisor`, the first time it comes.
fn each_once(divisor: u16) -> Loss {
    let mut lost = HashSet::new();
    Box::new(move |datagram| {
        let sequence = video_sequence(datagram).filter(|sequence| sequence.is_multiple_of(divisor));
        sequence.is_some_and(|sequence| lost.insert(sequence))
    })
}

#[tokio::test]
async fn what_the_hosts_uplink_loses_is_asked_for_and_nobody_sees_it() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    publisher.loss_out = Some(each_once(9));
    let mut next = 5;
    pump(&mut [&mut publisher, &mut viewer], "thirty frames are whole", |all| {
        // A few at a time: the loss of a last packet shows only by the next.
        if all[1].has_seen(next.max(8) - 3) || next < 8 {
            all[0].send_vp8(next, false);
            next += 1;
        }
        all[1].last_whole_frame() >= Some(30)
    });
    let whole = viewer.whole_frames();
    assert_eq!(whole, (0..whole.len() as u32).collect::<Vec<u32>>());
    assert_continuous(&viewer);
    let stats = stage.stats();
    assert!(stats.nacks_out > 0, "{stats:?}");
    assert_eq!((stats.packets_lost, stats.frames_dropped), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_repaired_freezes_the_picture_until_a_keyframe_and_breaks_nothing() {
    let mut stage = Stage::new();
    let (mut publisher, _) = stage.publisher(&Abilities::default()).await;
    let (mut viewer, _) = stage.viewer(&Abilities::default()).await;
    pump(&mut [&mut publisher, &mut viewer], "the viewer is connected", |all| all[1].connected);
    stream(&mut publisher, &mut [&mut viewer], 0..5, true);
    // The second packet of frame 5 never gets through.
    let hole = publisher.next_sequence().wrapping_add(1);
    publisher.loss_out = Some(Box::new(move |datagram| video_sequence(datagram) == Some(hole)));
    for number in 5..15 {
        publisher.send_vp8(number, false);
    }
    let mut next = 15;
    pump(&mut [&mut publisher, &mut viewer], "a keyframe is asked for", |all| {
        all[0].send_vp8(next, false);
        next += 1;
        all[0].rtcp().iter().any(|packet| packet.as_any().is::<PictureLossIndication>())
    });
    stream(&mut publisher, &mut [&mut viewer], 10_000..10_010, true);
    assert_eq!(viewer.whole_frames(), (0..5).chain(10_000..10_010).collect::<Vec<u32>>());
    assert!(!(5..next).any(|number| viewer.has_seen(number)), "not even in part");
    assert_continuous(&viewer);
    let stats = stage.stats();
    assert_eq!(stats.packets_lost, 1);
    assert_eq!(stats.frames_dropped, u64::from(next - 5), "the torn frame's tail, and those that lean on it");
}
