//! What a scenario would do, for who is about to run it: who comes, what happens when, what must hold, and what must be
//! given. Pure: text from the scenario and its plan.

use std::{fmt::Write as _, time::Duration};

use crate::{
    catalog,
    plan::{Plan, Step},
    report::{Who, number},
    scenario::{Amount, Coming, Scenario, Transport, Victim},
};

/// The outline.
pub(crate) fn text(scenario: &Scenario, plan: &Plan) -> String {
    let mut text = format!("{}\n{} s, seed {}", scenario.about, amount(scenario.duration_s), scenario.seed);
    if scenario.lives > 1 {
        let _ = write!(text, ", all of this in each of {} lives", scenario.lives);
    }
    text.push('\n');
    let section = |text: &mut String, title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            let _ = writeln!(text, "\n{title}");
            text.extend(lines.iter().map(|line| format!("  {line}\n")));
        }
    };
    section(&mut text, "Who comes", who(scenario, plan));
    section(&mut text, "When", when(scenario, plan));
    section(&mut text, "What must hold", levels(scenario));
    section(&mut text, "What it needs", needs(scenario, plan));
    text
}

fn who(scenario: &Scenario, plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(publisher) = &scenario.publisher {
        let layers = if publisher.simulcast { " in three sizes" } else { "" };
        lines.push(format!("a host who sends {:?}{layers} {}", publisher.clip, by(publisher.transport)));
    }
    for group in &scenario.viewers {
        lines.push(format!(
            "{} viewers {}{}; all packets of {} decrypted",
            group.count,
            by(group.transport),
            coming(group.coming()),
            percent(group.decrypt)
        ));
    }
    if let Some(stairs) = &plan.stairs {
        let Some(capacity) = &scenario.capacity else { return lines };
        lines.push(format!(
            "viewers by WebRTC: {} at first, {} more every {} s until a level breaks, {} at most",
            stairs.start, stairs.step, capacity.every_s, stairs.max
        ));
    }
    for group in &scenario.chatters {
        let mut does = Vec::new();
        does.extend(group.say_every_s.map(|every| format!("says a line every {every} s")));
        does.extend(group.like_every_s.map(|every| format!("likes every {every} s")));
        does.extend(group.read_every_ms.map(|every| format!("reads a message every {every} ms")));
        let does = if does.is_empty() { "reads".to_owned() } else { does.join(", ") };
        lines.push(format!("{} on the channel{}; each {does}", group.count, coming(group.coming())));
    }
    for group in &scenario.buyers {
        lines.push(format!("{} buyers{}", group.count, coming(group.coming())));
        lines.push(format!(
            "  each taps {} ms after the sale has opened, for {} a piece, and decides in {} ms;",
            group.tap_after_ms, group.quantity, group.decide_ms
        ));
        lines.push(format!(
            "  {} pay, {} walk away and let it run out, {} tap twice",
            percent(group.pay),
            percent(group.abandon),
            percent(group.repeat)
        ));
    }
    lines.push(format!("together: {}", Who::of([plan])));
    lines
}

fn by(transport: Transport) -> &'static str {
    match transport {
        Transport::WebRtc => "by WebRTC",
        Transport::Moq => "by Media over QUIC",
    }
}

fn coming(coming: Coming) -> String {
    let mut text = format!(", from {} s", coming.join_at_s);
    let _ = match (coming.join_over_s.is_zero(), coming.join_steps.is_zero()) {
        (true, _) => write!(text, " all at once"),
        (false, true) => write!(text, " over {} s", coming.join_over_s),
        (false, false) => write!(text, " over {} s in {} steps", coming.join_over_s, coming.join_steps),
    };
    if let Some(stay) = coming.stay_s {
        let _ = write!(text, ", stay {stay} s");
    }
    if let Some(away) = coming.return_after_s {
        let _ = write!(text, " and return after {away} s");
    }
    text
}

/// What happens at its time: arrivals and taps as the times they take, everything else one by one.
fn when(scenario: &Scenario, plan: &Plan) -> Vec<String> {
    let mut events: Vec<(Duration, Option<Duration>, String)> = Vec::new();
    let mut span = |what: &str, times: &mut dyn Iterator<Item = Duration>| {
        let times: Vec<_> = times.collect();
        if let (Some(first), Some(last)) = (times.iter().min(), times.iter().max()) {
            let most = busiest_second(&times);
            let rate = if times.len() > 1 {
                format!(", up to {} a second", number(most as f64))
            } else {
                String::new()
            };
            events.push((*first, Some(*last), format!("{} {what}{rate}", number(times.len() as f64))));
        }
    };
    let steps = |wanted: fn(&Step) -> bool| {
        plan.steps.iter().filter(move |(_, step)| wanted(step)).map(|(at, _)| *at)
    };
    span("viewers join, those who return included", &mut steps(|step| matches!(step, Step::Watch(_))));
    span("viewers leave", &mut steps(|step| matches!(step, Step::Unwatch(_))));
    span("open the channel", &mut steps(|step| matches!(step, Step::Enter(_))));
    span("leave the channel", &mut steps(|step| matches!(step, Step::Exit(_))));
    span("buyers open the channel and wait", &mut steps(|step| matches!(step, Step::Queue(_))));
    span("pins of the host's", &mut steps(|step| *step == Step::Pin));
    let sale = steps(|step| *step == Step::Sell).next();
    if let Some(open) = sale {
        let end = scenario.duration();
        let taps = plan.buyers.iter().map(|buyer| open + buyer.tap_after).filter(|at| *at < end);
        span("buyers tap", &mut taps.into_iter());
    }
    for (at, step) in &plan.steps {
        let what = match step {
            Step::Publish => "the host publishes".to_owned(),
            Step::Vanish => "the host's network fails".to_owned(),
            Step::Sell => match &scenario.sale {
                Some(sale) => format!("the sale opens: {} units, held for {} s", sale.stock, sale.hold_s),
                None => continue,
            },
            Step::Break(fault) => scenario.faults[*fault].name.clone(),
            _ => continue,
        };
        events.push((*at, None, what));
    }
    events.sort_by_key(|event| event.0);
    let seconds = |time: Duration| amount((time.as_secs_f64() * 10.0).round() / 10.0);
    let line = |(from, to, what): &(Duration, Option<Duration>, String)| {
        let from_s = seconds(*from);
        let time = match to.map(seconds).filter(|to| *to != from_s) {
            Some(to) => format!("{from_s} to {to} s"),
            None => format!("{from_s} s"),
        };
        format!("{time:>14}  {what}")
    };
    events.iter().map(line).collect()
}

/// The most of these within a second.
fn busiest_second(times: &[Duration]) -> usize {
    let mut times = times.to_vec();
    times.sort_unstable();
    let mut first = 0;
    let mut most = 0;
    for (last, at) in times.iter().enumerate() {
        while *at - times[first] >= Duration::from_secs(1) {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

fn levels(scenario: &Scenario) -> Vec<String> {
    let width = scenario.levels.iter().map(|level| level.to_string().len()).max().unwrap_or(0);
    let line = |level: &crate::level::Level| {
        let level_text = level.to_string();
        format!("{level_text:<width$}  {}", catalog::about(&level.measure))
    };
    scenario.levels.iter().map(line).collect()
}

fn needs(scenario: &Scenario, plan: &Plan) -> Vec<String> {
    let mut needs = Vec::new();
    needs.push(if scenario.needs_channel() {
        "a Haul server: --target URL --token HOST_TOKEN".to_owned()
    } else {
        "any server: --target URL (Haul), or --whip URL and --whep URL; --token".to_owned()
    });
    if scenario.lives > 1 {
        needs.push("a token for several lives, and their names: --live 'load-*'".to_owned());
    }
    if scenario.sale.is_some() {
        needs.push("--api-key KEY, to compare webhooks and the whole ledger as well".to_owned());
    }
    if scenario.levels.iter().any(|level| level.measure.starts_with("server.")) {
        needs.push("--server-pid PID, to judge the server's processor and memory as well".to_owned());
    }
    let kills = |victim| scenario.faults.iter().any(|fault| fault.kill == Some(victim));
    if scenario.faults.iter().any(|fault| fault.run.is_some() || fault.kill.is_some()) {
        needs.push("--allow-commands, as it breaks things on this machine".to_owned());
    }
    if kills(Victim::Server) {
        needs.push("--server-pid PID and --server-start COMMAND".to_owned());
    }
    if kills(Victim::Redis) {
        needs.push("--redis-pid PID and --redis-start COMMAND".to_owned());
    }
    let files = plan.viewers.len() + plan.chatters.len() + plan.buyers.len();
    if files > 900 {
        needs
            .push(format!("open files: ulimit -n {} or more", (files + files / 4 + 256).next_power_of_two()));
    }
    needs
}

fn percent(share: Amount) -> String {
    share.times(100.0).to_string() + " %"
}

fn amount(value: f64) -> String {
    Amount::fixed(value).to_string()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn of(name: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../configs/loadtest/{name}.toml"));
        let scenario = Scenario::read(&path).unwrap();
        text(&scenario, &Plan::new(&scenario))
    }

    #[test]
    fn a_flash_sale_is_told_as_people_would() {
        let text = of("flash-sale");
        for line in [
            "10000 buyers, from 0 s over 30 s",
            "each taps 0 to 4500 ms after the sale has opened",
            "        0 to 35 s  10,200 buyers open the channel and wait, up to 334 a second",
            "           40 s  the sale opens: 100 units, held for 15 s",
            "40 to 65 s  10,200 buyers tap, up to",
            "together: 50 on the channel, 10,200 buyers",
            "sale.oversold == 0",
            "units confirmed beyond the stock",
            "--api-key KEY",
            "ulimit -n 16384",
        ] {
            assert!(text.contains(line.trim_start()), "{line}\n{text}");
        }
        assert!(text.find("the sale opens").unwrap() < text.find("buyers tap").unwrap(), "in order of time");
    }

    #[test]
    fn every_shipped_scenario_says_what_it_needs() {
        let chaos = of("chaos");
        for line in
            ["Redis killed, and started again", "--redis-pid", "the host's network fails", "--allow-commands"]
        {
            assert!(chaos.contains(line), "{line}\n{chaos}");
        }
        let capacity = of("capacity");
        assert!(
            capacity.contains("100 at first, 100 more every 10 s") && capacity.contains("--whip"),
            "{capacity}"
        );
        assert!(of("evening").contains("stay 30 to 180 s and return after 10 to 60 s"));
    }

    #[test]
    fn the_busiest_second_slides() {
        let ms = |all: &[u64]| all.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(busiest_second(&ms(&[0, 900, 1_100, 1_800, 5_000])), 3);
        assert_eq!(busiest_second(&[]), 0);
    }
}
