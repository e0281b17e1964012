//! The report as a page: one file, no script, nothing from elsewhere; readable on a phone, in the light and in the dark.

mod plot;

use std::{collections::BTreeMap, fmt::Write as _};

use haul_model::UnixMillis;

use crate::{
    catalog::{self, DISTRIBUTIONS, unit},
    level::Verdict,
    report::{Outcome, Report, number},
};

const STYLE: &str = include_str!("style.css");

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let outcome = report.outcome();
    let class = match outcome {
        Outcome::Passed => "passed",
        Outcome::Failed | Outcome::Wrong => "failed",
        Outcome::Invalid => "invalid",
    };
    let (word, name) = (outcome.word(), escape(&report.scenario));
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\
         <title>{word}: {name}</title><style>{STYLE}</style><main><header class='verdict {class}'><b>{word}</b>\
         <span>{}</span></header><h1>{name}</h1><p>{}</p><p class=soft>{} · {:.0} s · seed {} · {} · {}</p>",
        escape(&sentence(report)),
        escape(&report.about),
        escape(&report.who.to_string()),
        report.duration_s,
        report.seed,
        escape(&report.target),
        date(report.started_at_ms),
    );
    if !report.invalid.is_empty() {
        page.push_str(match outcome {
            Outcome::Wrong => {
                "<div class=alarm><b>What is wrong below is wrong, however slow the harness was.</b> Its times and losses are \
                 not to be trusted, for the harness itself was the bottleneck:"
            }
            _ => "<div class=alarm><b>Not to be trusted: the harness itself was the bottleneck.</b>",
        });
        list(&mut page, report.invalid.iter().map(|why| escape(why)), "");
        page.push_str("</div>");
    }
    tiles(&mut page, report);
    levels(&mut page, report);
    distributions(&mut page, report);
    returns(&mut page, report);
    plot::all(&mut page, report);
    audit(&mut page, report);
    rest(&mut page, report);
    page.push_str("</main></html>\n");
    page
}

/// What came of it, in a sentence.
fn sentence(report: &Report) -> String {
    let broken: Vec<_> = report.levels_in_order().into_iter().filter(|verdict| !verdict.holds).collect();
    match broken.first() {
        None => format!("all {} service levels held", report.levels.len()),
        Some(first) => {
            let (count, all) = (broken.len(), report.levels.len());
            format!(
                "{count} of {all} service levels did not hold: {} was {}",
                first.level,
                first.measured_in_words()
            )
        }
    }
}

/// What one wants to know first: a measure, what it is called, and its unit.
const TILES: &[(&str, &str, &str)] = &[
    ("capacity.viewers", "viewers carried", ""),
    ("join.most_at_once", "viewers at once", ""),
    ("join.ttff_p95_ms", "first picture, p95", "ms"),
    ("delay.p95_ms", "end-to-end delay, p95", "ms"),
    ("media.loss_pct", "packets lost", "%"),
    ("media.freezes_per_viewer_hour", "freezes an hour watched", ""),
    ("moq.ttff_p95_ms", "first picture by MoQ, p95", "ms"),
    ("moq.delay_p95_ms", "delay by MoQ, p95", "ms"),
    ("drop.steady_p95_ms", "steady again after a drop, p95", "ms"),
    ("chat.p99_ms", "chat line, p99", "ms"),
    ("sale.confirmed", "orders sold", ""),
    ("sale.oversold", "units oversold", ""),
    ("hold.p99_ms", "hold, p99", "ms"),
    ("stock_event.p99_ms", "stock event, p99", "ms"),
    ("channel.most_at_once", "people on the channel", ""),
    ("server.cpu_pct", "of a core: the server", "%"),
];
/// Tiles at most.
const MAX_TILES: usize = 12;

fn tiles(page: &mut String, report: &Report) {
    page.push_str("<div class=tiles>");
    let shown = |name: &str, value: f64| value > 0.0 || ["media.loss_pct", "sale.oversold"].contains(&name);
    let known = TILES.iter().filter_map(|(name, title, unit)| {
        let value = *report.measures.get(*name)?;
        shown(name, value).then_some((value, title, unit))
    });
    for (value, title, unit) in known.take(MAX_TILES) {
        let value = number(value);
        let _ =
            write!(page, "<div class=tile><b>{value} <small>{unit}</small></b><span>{title}</span></div>");
    }
    page.push_str("</div>");
}

/// What did not hold comes first.
fn levels(page: &mut String, report: &Report) {
    let held = report.levels.iter().filter(|verdict| verdict.holds).count();
    let _ = write!(page, "<h2>Service levels: {held} of {} held</h2><div class=levels>", report.levels.len());
    for verdict in report.levels_in_order() {
        let measured = verdict.measured_in_words();
        let (class, word) = if verdict.holds { ("level", "ok") } else { ("level broken", "no") };
        let _ = write!(
            page,
            "<div class='{class}'><div><code>{}</code><b class={word}>{} {measured}</b></div><p>{}</p>",
            escape(&verdict.level),
            if verdict.holds { "✓" } else { "✗" },
            escape(&catalog::about(verdict.measure())),
        );
        if let Some(part) = used(verdict) {
            let _ = write!(page, "<div class=gauge><i style='width:{:.0}%'></i></div>", part * 100.0);
        }
        page.push_str("</div>");
    }
    page.push_str("</div>");
    if !report.not_judged.is_empty() {
        let levels = report.not_judged.iter().map(|level| format!("<code>{}</code>", escape(level)));
        let levels = levels.collect::<Vec<_>>().join(", ");
        let _ =
            write!(page, "<p class='soft small'>Not judged, as --server-pid was not given: {levels}.</p>");
    }
}

/// How much of what a level permits was used, where it permits a number at most.
fn used(verdict: &Verdict) -> Option<f64> {
    let (_, bound) = verdict.level.split_once("<=")?;
    let (bound, measured): (f64, f64) = (bound.trim().parse().ok()?, verdict.measured?);
    (bound > 0.0).then(|| (measured / bound).clamp(0.0, 1.0))
}

fn distributions(page: &mut String, report: &Report) {
    if report.distributions.is_empty() {
        return;
    }
    page.push_str("<h2>How long things took</h2>");
    spans(page, report);
    // On a phone each row is a block of its own, whose numbers carry their columns' names.
    page.push_str("<div class=scroll><table class=times><tr><th>milliseconds");
    let columns = ["p50", "p90", "p99", "p99.9", "max"];
    page.extend(columns.iter().map(|column| format!("<th>{column}")));
    page.push_str("<th>count");
    for distribution in DISTRIBUTIONS {
        let Some(summary) = report.distributions.get(distribution.name) else { continue };
        let _ = write!(page, "<tr><td title='{}'>{}", escape(distribution.about), distribution.title);
        let values = [summary.p50, summary.p90, summary.p99, summary.p999, summary.max];
        for (column, value) in columns.iter().zip(values) {
            let value = value.map_or("–".to_owned(), number);
            let _ = write!(page, "<td data-is='{column}'>{value}<small> ms</small>");
        }
        let _ = write!(page, "<td class=count>{}<small> times</small>", number(summary.count as f64));
    }
    page.push_str("</table></div>");
}

/// Each distribution as a bar on one scale, by powers of ten: to p99, and on to the longest.
fn spans(page: &mut String, report: &Report) {
    let all = || report.distributions.values();
    let least = all().filter_map(|summary| summary.p50).fold(f64::MAX, f64::min).max(0.1).log10().floor();
    let most = all().filter_map(|summary| summary.max).fold(0.1, f64::max).log10().ceil().max(least + 1.0);
    let place = |ms: f64| 100.0 * (ms.max(0.001).log10() - least).clamp(0.0, most - least) / (most - least);
    let _ = write!(page, "<div class=spans style='--decades:{:.0}'>", most - least);
    for distribution in DISTRIBUTIONS {
        let Some(summary) = report.distributions.get(distribution.name) else { continue };
        let (Some(p50), Some(p99), Some(max)) = (summary.p50, summary.p99, summary.max) else { continue };
        let (middle, body, tail) = (place(p50), place(p99), place(max));
        let _ = write!(
            page,
            "<div class=span title='{}'><span>{}</span><span class=track><i class=tail style='left:0;width:{tail:.1}%'></i>\
             <i class=body style='left:0;width:{body:.1}%'></i><i class=dot style='left:{middle:.1}%'></i></span>\
             <b>{} · {} <small>ms</small></b></div>",
            escape(distribution.about),
            distribution.title,
            number(p50),
            number(p99),
        );
    }
    let (from, to) = (10_f64.powf(least), 10_f64.powf(most));
    let _ = write!(
        page,
        "<p class=legend>Dot and first number: p50. Dark, and second number: p99. Light: the longest. From {} to {} ms, by \
         powers of ten.</p></div>",
        number(from),
        number(to)
    );
}

/// How those came back whose network had failed.
fn returns(page: &mut String, report: &Report) {
    let get = |name: &str| report.measures.get(name).copied();
    let kinds = [("viewers", "viewers"), ("channels", "people on the channel")];
    let kinds = kinds.map(|(kind, title)| Some((kind, title, get(&format!("drop.{kind}"))?)));
    if kinds.iter().all(Option::is_none) {
        return;
    }
    page.push_str(
        "<h2>Who came back</h2><div class=scroll><table><tr><th>networks that failed<th>times<th>went on<th>anew<th>lost",
    );
    for (kind, title, times) in kinds.into_iter().flatten() {
        let _ = write!(page, "<tr><td>{title}<td>{}", number(times));
        for way in ["same", "anew", "lost"] {
            let _ = write!(page, "<td>{}", number(get(&format!("drop.{kind}_{way}")).unwrap_or(0.0)));
        }
    }
    page.push_str("</table></div>");
    if let (Some(resumed), Some(not), Some(missed)) =
        (get("channel.resumed"), get("channel.not_resumed"), get("channel.missed"))
    {
        let _ = write!(
            page,
            "<p class=soft>Of the channels that were opened anew, for whatever reason, {} were told exactly what they had \
             missed, and {} got a snapshot alone. Events missed, chat lines apart: {}.</p>",
            number(resumed),
            number(not),
            number(missed)
        );
    }
}

fn audit(page: &mut String, report: &Report) {
    let Some(audit) = &report.audit else { return };
    let told = |units: Option<u32>| units.map_or("unknown".to_owned(), |units| units.to_string());
    let _ = write!(
        page,
        "<h2>The sale's books</h2><div class=scroll><table><tr><th>what<th>how many\
         <tr><td>stock<td>{}<tr><td>held, by the buyers' own records<td>{}<tr><td>given back<td>{}\
         <tr><td>confirmed to buyers<td>{}<tr><td>sold, by the ledger<td>{}<tr><td>sold, by the sale<td>{}\
         <tr><td>orders confirmed to buyers<td>{}<tr><td>orders sold, by the webhook<td>{}</table></div>",
        audit.stock,
        audit.held_units,
        audit.released_units,
        audit.confirmed_units,
        told(audit.ledger_units),
        told(audit.sale_sold),
        audit.confirmed_orders,
        audit.webhook_orders.map_or("not compared".to_owned(), |orders| orders.to_string()),
    );
    match audit.differences.is_empty() {
        true => page.push_str("<p class=ok>They agree one to one.</p>"),
        false => list(page, audit.differences.iter().map(|text| escape(text)), "no"),
    }
    for text in &audit.not_compared {
        let _ = write!(page, "<p class=soft>Not compared: {}.</p>", escape(text));
    }
}

fn rest(page: &mut String, report: &Report) {
    if !report.notes.is_empty() {
        page.push_str("<h2>What happened when</h2><p class='soft small'>Dotted lines in the plots, by their numbers.</p><ol class=when>");
        for note in &report.notes {
            let _ = write!(page, "<li><b>{:.0} s</b> {}", note.at_s, escape(&note.text));
        }
        page.push_str("</ol>");
    }
    if !report.complaints.is_empty() {
        page.push_str("<h2>What went wrong</h2><div class=scroll><table><tr><th>what<th>times");
        for (what, times) in &report.complaints {
            let _ = write!(page, "<tr><td class=wrap>{}<td>{}", escape(what), number(*times as f64));
        }
        page.push_str("</table></div>");
    }
    if !report.threads.is_empty() {
        page.push_str("<h2>Busiest threads</h2><div class=scroll><table><tr><th>thread<th>of<th>of a core");
        for (whose, name, busy) in &report.threads {
            let _ = write!(page, "<tr><td>{}<td>{}<td>{} %", escape(name), escape(whose), number(*busy));
        }
        page.push_str("</table></div>");
    }
    page.push_str(
        "<h2>Everything that was measured</h2><p class='soft small'>By the names that levels use.</p>",
    );
    let mut measures: BTreeMap<&str, Vec<(&str, f64)>> = BTreeMap::new();
    for (name, value) in &report.measures {
        let group = name.split('.').next().unwrap_or_default();
        measures.entry(group).or_default().push((name, *value));
    }
    for (group, values) in measures {
        let _ = write!(
            page,
            "<details><summary>{} <span class=soft>{}</span></summary><div class=scroll><table>",
            escape(group),
            values.len()
        );
        for (name, value) in values {
            let value = number(value);
            let _ = write!(
                page,
                "<tr><td><code>{}</code><td>{value} <small>{}</small>",
                escape(name),
                unit(name)
            );
        }
        page.push_str("</table></div></details>");
    }
    let _ = write!(
        page,
        "<h2>How this was measured</h2><p class=soft>Lost packets are numbers between the first and the highest that never \
         came, asked for again or not. A freeze is a gap between two whole pictures longer than three times the average of \
         the last 30, and than that average and 150 ms, as in WebRTC's statistics. Percentiles are at most 1.6 % above the \
         truth. Delays run from the publisher's sending to the arrival of the packet that carries the stamp, by MoQ to that of the whole \
         picture. Which layer a viewer is sent is read from the same stamps.</p>\
         <p class=soft>{} · haul-loadtest {}</p><p><code>{}</code></p>",
        escape(&report.machine),
        escape(&report.version),
        escape(&report.command)
    );
}

fn list(page: &mut String, items: impl Iterator<Item = String>, class: &str) {
    page.push_str("<ul>");
    for item in items {
        let _ = write!(page, "<li class='{class}'>{item}");
    }
    page.push_str("</ul>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Milliseconds since 1970 as a date that people read.
fn date(ms: u64) -> String {
    let text = UnixMillis(ms).to_string();
    format!("{} {} UTC", &text[..10], &text[11..16])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_stands_alone_and_trusts_nobody() {
        let mut report = crate::report::tests::example();
        report.series.at(1.0);
        report.series.put("viewers", Some(3.0));
        report.series.at(2.0);
        report.series.put("viewers", Some(4.0));
        report.measures.extend([("drop.viewers".to_owned(), 9.0), ("drop.viewers_anew".to_owned(), 4.0)]);
        let page = page(&report);
        assert!(page.contains("<tr><td>viewers<td>9<td>0<td>4<td>0"), "{page}");
        assert!(page.contains("FAILED") && page.contains("sale.oversold == 0"));
        assert!(page.contains("1 of 1 service levels did not hold: sale.oversold == 0 was 1"), "{page}");
        assert!(page.contains("25 viewers, 20 on the channel, 30 buyers"), "{page}");
        assert!(page.contains("<path class=l0 d='M"), "a line is drawn");
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
        for outside in ["src=", "@import", "url(", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn dates_are_of_the_calendar() {
        assert_eq!(date(1_790_000_000_000), "2026-09-21 14:13 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00 UTC");
    }

    #[test]
    fn levels_are_told_with_how_much_room_is_left() {
        let verdict = |level: &str, measured| Verdict { level: level.to_owned(), measured, holds: true };
        assert_eq!(used(&verdict("hold.p99_ms <= 200", Some(50.0))), Some(0.25));
        assert_eq!(used(&verdict("hold.p99_ms <= 200", Some(900.0))), Some(1.0));
        assert_eq!(used(&verdict("sale.oversold == 0", Some(0.0))), None);
        assert_eq!(used(&verdict("hold.p99_ms <= 200", None)), None);
    }

    #[test]
    fn what_is_wrong_stands_above_what_is_not_to_be_trusted() {
        let mut report = crate::report::tests::example();
        report.invalid.push("its timers came up to 300 ms late (3 to 4 s)".to_owned());
        let wrong = page(&report);
        assert!(
            wrong.contains("FAILED, AND INVALID") && wrong.contains("header class='verdict failed'"),
            "{wrong}"
        );
        assert!(wrong.contains("wrong, however slow") && wrong.contains("300 ms late (3 to 4 s)"), "{wrong}");
        report.levels[0].holds = true;
        let slow = page(&report);
        assert!(slow.contains("verdict invalid") && slow.contains("Not to be trusted"), "{slow}");
    }

    #[test]
    fn every_time_carries_its_column_and_its_unit() {
        let mut report = crate::report::tests::example();
        let mut times = crate::histogram::Histogram::default();
        times.record_us(12_000);
        report.distributions.insert("hold".to_owned(), times.summary());
        let page = page(&report);
        assert!(page.contains("<td data-is='p99'>12<small> ms</small>"), "{page}");
        assert!(page.contains("12.0 · 12.0") || page.contains("12 · 12 <small>ms"), "{page}");
    }
}
