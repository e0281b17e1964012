//! The harness has teeth: before a server with one fault, the level that is about that fault fails, by its name, and
//! none of the others does. The faults are made by a proxy before a good server.

#![allow(clippy::unwrap_used)]

#[path = "support/proxy.rs"]
mod proxy;
mod support;

use proxy::{Fault, Proxy};
use support::{Server, run};

/// Viewers who come and go, and a sale whose stock is sold out by buyers who pay at once.
const SCENARIO: &str = "
about = 'A little of what can go wrong'
seed = 5
duration_s = 14
levels = [
    'media.first_loss_pct <= 0.5',
    'sale.oversold == 0',
    'stock_event.p50_ms <= 700',
    'sale.double_holds == 0',
    'server.rss_growth_kb_per_join <= 100',
]
[publisher]
clip = 'vp8'
[[viewers]]
count = 6
join_over_s = 3
[[viewers]]
count = 6
stay_s = 0.6
return_after_s = 0.1
[[buyers]]
count = 40
join_over_s = 2
tap_after_ms = [0, 500]
decide_ms = 300
repeat = REPEAT
[[chatters]]
count = 5
[sale]
at_s = 5
stock = 8
";

/// Whose memory is looked at.
#[derive(Clone, Copy, PartialEq)]
enum Memory {
    OfTheServer,
    /// What the proxy keeps for itself is, from outside, the server's.
    OfTheProxy,
}

fn broken_by(fault: Fault, memory: Memory) -> (Vec<String>, String) {
    let server = Server::start();
    let proxy = Proxy::start(&server, fault);
    let pid = if memory == Memory::OfTheProxy { proxy.pid() } else { server.pid() };
    let repeat = if fault == Fault::DoubleHold { "1" } else { "0" };
    let scenario = SCENARIO.replace("REPEAT", repeat);
    let run = run(&scenario, &proxy.base, &server.token, &["--server-pid", &pid.to_string()]);
    assert!(run.measure("join.ttff_p50_ms") > 0.0 && run.measure("sale.confirmed") >= 8.0, "{}", run.text);
    assert!(run.measure("join.attempts") > 40.0, "enough come and go: {}", run.text);
    (run.broken(), run.text)
}

#[test]
fn is_the_proxy_where_a_test_asks_for_one() {
    Proxy::be_one_if_asked();
}

#[test]
fn a_good_server_keeps_every_level() {
    let (broken, text) = broken_by(Fault::None, Memory::OfTheServer);
    assert_eq!(broken, [] as [&str; 0], "{text}");
}

#[test]
fn what_the_leak_is_measured_by_does_not_leak_by_itself() {
    let (broken, text) = broken_by(Fault::None, Memory::OfTheProxy);
    assert_eq!(broken, [] as [&str; 0], "{text}");
}

#[test]
fn a_key_that_gives_two_holds_is_seen_by_the_first_of_two_taps() {
    let (broken, text) = broken_by(Fault::DoubleHold, Memory::OfTheServer);
    assert_eq!(broken, ["sale.double_holds == 0"], "{text}");
    assert!(text.contains("another-hold"), "and the audit names it: {text}");
}

#[test]
fn loss_is_seen() {
    let (broken, text) = broken_by(Fault::Loss, Memory::OfTheServer);
    assert_eq!(broken, ["media.first_loss_pct <= 0.5"], "{text}");
}

#[test]
fn one_unit_too_many_is_seen() {
    let (broken, text) = broken_by(Fault::Oversell, Memory::OfTheServer);
    assert_eq!(broken, ["sale.oversold == 0"], "{text}");
    assert!(text.contains("order-too-much"), "and the audit names the order: {text}");
}

#[test]
fn late_stock_events_are_seen() {
    let (broken, text) = broken_by(Fault::LateStock, Memory::OfTheServer);
    assert_eq!(broken, ["stock_event.p50_ms <= 700"], "{text}");
}

#[test]
fn a_leak_is_seen() {
    let (broken, text) = broken_by(Fault::Leak, Memory::OfTheProxy);
    assert_eq!(broken, ["server.rss_growth_kb_per_join <= 100"], "{text}");
}
