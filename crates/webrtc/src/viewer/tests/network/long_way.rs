//! Loss on a long way: what is lost has to come again before it is to be shown. Freezes are counted as browsers do.

use super::*;

/// A host whose keyframes come when they are asked for, each as large as a third of a second's pictures: what libvpx makes of
/// them where it encodes for calls. `link` is 75 ms long each way.
fn far_away(picture_ms: u64, mut link: Link) -> Net {
    link.delay = Duration::from_millis(75);
    let mut net = Net::new(&[300, 1_000, 90], link);
    (net.picture_ms, net.keyframe_every) = (picture_ms, u64::MAX);
    net.keyframe_times = 330.0 / picture_ms as f64;
    net.viewer.took(2 * net.link.delay);
    net.run(20.0);
    net.player.screen.count_anew();
    net
}

fn freezes(net: &Net) -> String {
    let freezes = net.player.screen.freezes.iter();
    let words = freezes.map(|(at, lasted)| {
        format!("{} ms until {:.1} s", lasted.as_millis(), (*at - net.began).as_secs_f64())
    });
    words.collect::<Vec<_>>().join(", ")
}

#[test]
fn loss_on_a_long_way_freezes_little_also_while_the_rate_changes() {
    for picture_ms in [83, 33] {
        let (mut frozen, mut runs) = (Duration::ZERO, 0);
        for seed in 0..4 {
            let mut link = Link::new(3_000_000, seed);
            link.queue = Duration::from_millis(300);
            let mut net = far_away(picture_ms, link);
            (net.link.rate_bps, net.link.loss) = (500_000, 0.03);
            net.run(40.0);
            assert!(!net.shows("h"), "{}", net.state());
            net.link.rate_bps = 3_000_000;
            net.run(60.0);
            println!("a picture each {picture_ms} ms: {}; {}", freezes(&net), net.state());
            assert!(net.shows("h"), "{}", net.state());
            frozen += net.player.screen.frozen;
            runs += 1;
        }
        let share = frozen.as_secs_f64() / 100.0 / f64::from(runs);
        println!("a picture each {picture_ms} ms: frozen for {:.2} % of the time", 100.0 * share);
        assert!(share < 0.02, "{share}");
    }
}

#[test]
fn a_repair_on_a_long_way_comes_before_the_picture_is_to_be_shown() {
    let mut link = Link::new(3_000_000, 7);
    link.loss = 0.03;
    let mut net = far_away(83, link);
    net.run(100.0);
    let screen = &net.player.screen;
    println!("held back for {:?}; {}", screen.least, freezes(&net));
    assert!(screen.pictures > 1_100, "{}", screen.pictures);
    assert!(screen.frozen < Duration::from_millis(500), "{:?}", screen.frozen);
    // The pause between pictures, the round trip, and a little.
    assert!((233..350).contains(&screen.least.as_millis()), "{:?}", screen.least);
    // And where nothing is lost nobody waits.
    let mut clean = far_away(83, Link::new(3_000_000, 7));
    clean.run(30.0);
    assert_eq!(clean.player.screen.least, Duration::ZERO);
}

#[test]
fn a_keyframe_that_a_slow_networks_queue_would_not_hold_does_not_overflow_it() {
    let mut link = Link::new(500_000, 1);
    link.queue = Duration::from_millis(150);
    let mut net = far_away(33, link);
    net.run(10.0);
    assert!(net.shows("m"), "{}", net.state());
    let (resends, before) = (net.counters.resends.get(), net.player.newest);
    // 95 kbit take 190 ms.
    *net.encoder.0.lock().unwrap() = 1;
    net.run(1.0);
    println!("{} of {} packets lost", net.counters.resends.get() - resends, net.player.newest - before);
    assert_eq!(net.counters.resends.get(), resends);
}
