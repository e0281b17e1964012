//! What is measured, and what of.

use std::{thread::sleep, time::Duration};

use crate::{Found, median, process::Process};

const LIVE_SECONDS: f64 = 5.0;
const ROUNDS: usize = 3;

/// A server, and so many clients in a process of their own; the first of them is the host.
fn room(clients: usize) -> (Process, Process) {
    let server = Process::start(&["as-server"]);
    let mut load = Process::start(&["as-load", &server.port.to_string(), "0"]);
    let taken = load.ask(&format!("connect {clients}"))[0];
    eprintln!("{clients} clients connected in {taken:.1} s");
    sleep(Duration::from_secs(1));
    (server, load)
}

pub(crate) fn fanout() -> Vec<Found> {
    const CLIENTS: usize = 5_000;
    const LINES_A_SECOND: f64 = 200.0;
    let (server, mut load) = room(CLIENTS);
    let mut bare = Process::start(&["as-bare"]);
    let mut bare_load = Process::start(&["as-load", &bare.port.to_string(), "0"]);
    bare_load.ask(&format!("bare {CLIENTS}"));
    load.ask("gather");
    bare_load.ask("gather");

    let (mut ratios, mut ours_ns, mut theirs_ns, mut p99) = (vec![], vec![], vec![], vec![]);
    for round in 0..=ROUNDS {
        let (cpu, writes) = (server.cpu(), server.metric("haul_channel_writes_total"));
        let offered = load.ask(&format!("offer {LIVE_SECONDS} {LINES_A_SECOND} 0 0 0"));
        let cpu = server.cpu() - cpu;
        let writes = server.metric("haul_channel_writes_total") - writes;
        let (frames, bytes) = (offered[0], offered[1]);
        let ours = cpu * 1e9 / frames;
        let frames_a_write = frames / writes;
        let writes_a_second = writes / CLIENTS as f64 / LIVE_SECONDS;

        let cpu = bare.cpu();
        bare.say(&format!(
            "{} {frames_a_write} {writes_a_second} {LIVE_SECONDS}",
            (bytes / frames).round() as usize
        ));
        let written = bare.answer()[0];
        let theirs = (bare.cpu() - cpu) * 1e9 / written;
        eprintln!(
            "fanout: {frames:.0} messages of {:.0} bytes, {frames_a_write:.1} a write, {writes_a_second:.1} writes a \
             second and connection; {ours:.0} ns each, bare {theirs:.0}; delay p50 {:.0} ms, p99 {:.0} ms",
            bytes / frames,
            offered[2],
            offered[3],
        );
        // The first warms up.
        if round > 0 {
            ratios.push(ours / theirs);
            ours_ns.push(ours);
            theirs_ns.push(theirs);
            p99.push(offered[3]);
        }
    }
    let (ours, theirs) = (median(ours_ns), median(theirs_ns));
    let rate = 1e9 / ours;
    let figures = format!(r#""ns":{ours:.0},"bare_ns":{theirs:.0},"delay_p99_ms":{:.0}"#, median(p99));
    let messages = format!(r#""messages_a_core_second":{rate:.0}"#);
    vec![
        Found { case: "fanout", ratio: median(ratios), max: 1.3, figures },
        Found { case: "fanout/rate", ratio: 1e6 / rate, max: 1.0, figures: messages },
    ]
}

pub(crate) fn crowd() -> Vec<Found> {
    const CLIENTS: usize = 10_000;
    const ROUND: usize = 2_500;
    let server = Process::start(&["as-server"]);
    let mut load = Process::start(&["as-load", &server.port.to_string(), "1"]);
    let bare = Process::start(&["as-bare"]);
    let mut bare_load = Process::start(&["as-load", &bare.port.to_string(), "1"]);
    // The live has begun, and what is made once is there.
    load.ask("connect 20");
    sleep(Duration::from_secs(1));
    let before = server.rss_kb();
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..CLIENTS / ROUND {
        let cpu = server.cpu();
        let taken = load.ask(&format!("connect {ROUND}"))[0];
        let rate = ROUND as f64 / (server.cpu() - cpu);
        let cpu = bare.cpu();
        bare_load.ask(&format!("bare {ROUND}"));
        let bare_rate = ROUND as f64 / (bare.cpu() - cpu);
        eprintln!("connect: {rate:.0} a second and core, bare {bare_rate:.0}; {ROUND} in {taken:.1} s");
        ours.push(rate);
        theirs.push(bare_rate);
    }
    load.ask("read 2");
    let kb = (server.rss_kb() - before) / CLIENTS as f64;
    let cpu = server.cpu();
    load.ask("read 5");
    let idle_cpu = (server.cpu() - cpu) / 5.0;
    eprintln!("idle: {kb:.1} KB a connection; all of them take {:.1} % of a core", idle_cpu * 100.0);
    let (rate, bare_rate) = (median(ours), median(theirs));
    let goal = f64::min(4_000.0, 0.5 * bare_rate);
    let figures = format!(r#""connects_a_core_second":{rate:.0},"bare":{bare_rate:.0}"#);
    vec![
        Found { case: "connect", ratio: goal / rate, max: 1.0, figures },
        Found { case: "idle", ratio: kb / 16.0, max: 1.0, figures: format!(r#""kb":{kb:.1}"#) },
    ]
}

pub(crate) fn overload() -> Vec<Found> {
    // Those who are loud, and those who buy and look: in a process of their own, or they would see how busy the others are.
    const LOUD: usize = 1_500;
    const BUYERS: usize = 500;
    let (server, mut loud) = room(LOUD);
    let mut buyers = Process::start(&["as-load", &server.port.to_string(), &LOUD.to_string()]);
    buyers.ask(&format!("connect {BUYERS}"));
    let mut both = |seconds: u32| {
        loud.say(&format!("offer {seconds} 20000 100000 0 0.5"));
        let seen = buyers.ask(&format!("offer {seconds} 0 0 120 0"));
        (loud.answer(), seen)
    };
    // Memory has its shape after the first seconds.
    both(5);
    let (before, cpu) = (server.rss_kb(), server.cpu());
    let (offered, seen) = both(10);
    let (grown, cpu) = (server.rss_kb() / before, (server.cpu() - cpu) / 10.0);
    let (chat_p99, closed) = (offered[3], offered[8] + seen[8]);
    let frames = offered[0] + seen[0];
    let &[_, _, _, _, holds, holds_p99, stocks, stock_p99, _] = seen.as_slice() else { panic!("{seen:?}") };
    eprintln!(
        "overload: {frames:.0} messages delivered, chat p99 {chat_p99:.0} ms, {holds} holds p99 {holds_p99:.1} ms, \
         {stocks} words of stock p99 {stock_p99:.1} ms, {closed} closed, {:.0} % of a core, memory {:.0} MB, x {grown:.2}",
        cpu * 100.0,
        before / 1e3,
    );
    assert_eq!(closed, 0.0, "nobody is put out for what they offer");
    vec![
        Found {
            case: "overload/stock",
            ratio: stock_p99 / 200.0,
            max: 1.0,
            figures: format!(r#""p99_ms":{stock_p99:.1}"#),
        },
        Found {
            case: "overload/hold",
            ratio: holds_p99 / 100.0,
            max: 1.0,
            figures: format!(r#""p99_ms":{holds_p99:.1},"holds":{holds}"#),
        },
        Found {
            case: "overload/memory",
            ratio: grown,
            max: 1.1,
            figures: format!(r#""mb":{:.0}"#, before / 1e3),
        },
    ]
}

pub(crate) fn slow() -> Vec<Found> {
    const CLIENTS: usize = 2_000;
    const SLOW: usize = CLIENTS / 100;
    let offer = "offer 15 100 100 20 0.5";
    let (_server, mut load) = room(CLIENTS - SLOW);
    load.ask("offer 3 100 100 20 0.5");
    let alone = load.ask(offer)[3];
    let mut slow = Process::start(&["as-load", &_server.port.to_string(), &CLIENTS.to_string()]);
    slow.ask(&format!("slow {SLOW}"));
    // Until what the kernel keeps for them is full, too.
    load.ask("offer 20 100 100 20 0.5");
    let beside = load.ask(offer)[3];
    let seen = slow.ask("slowly");
    let &[clients, pins, stocks, pin_ms, worst_pin_ms, closed] = seen.as_slice() else { panic!("{seen:?}") };
    eprintln!(
        "slow: the others' p99 {alone:.0} ms without them, {beside:.0} beside them; of {clients} slow ones {pins} saw a pin \
         (p50 after {pin_ms:.0} ms, worst {worst_pin_ms:.0}), {stocks} stock, {closed} were closed"
    );
    let figures = format!(r#""alone_p99_ms":{alone:.0},"beside_p99_ms":{beside:.0}"#);
    let kept = pins.min(stocks) - closed;
    vec![
        Found { case: "slow/others", ratio: beside / alone, max: 1.25, figures },
        Found {
            case: "slow/told",
            ratio: clients / kept.max(0.1),
            max: 1.0,
            figures: format!(
                r#""pin_p50_ms":{pin_ms:.0},"pin_worst_ms":{worst_pin_ms:.0},"closed":{closed}"#
            ),
        },
    ]
}
