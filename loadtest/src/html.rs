//! The report as a page: one file, no script, nothing from elsewhere; readable on a phone, in the light and in the dark.

use std::fmt::Write as _;

use crate::{
    level::DISTRIBUTIONS,
    report::{Note, Report, Series, number},
};

/// The drawing's own units; it is as wide as the page.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 190.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 22.0;

/// A plot: lines over the run's time.
struct Plot {
    title: &'static str,
    unit: &'static str,
    /// The series' lines, and what they are called here.
    lines: &'static [(&'static str, &'static str)],
}

const PLOTS: &[Plot] = &[
    Plot { title: "Who was there", unit: "", lines: &[("viewers", "viewers"), ("channels", "channels")] },
    Plot { title: "First picture", unit: "ms", lines: &[("ttff_p50", "p50"), ("ttff_p95", "p95")] },
    Plot { title: "End-to-end delay", unit: "ms", lines: &[("delay_p50", "p50"), ("delay_p99", "p99")] },
    Plot { title: "Received", unit: "Mb/s", lines: &[("mbps", "all viewers")] },
    Plot {
        title: "Trouble with the picture",
        unit: "a second",
        lines: &[("lost", "packets lost"), ("freezes", "freezes")],
    },
    Plot { title: "Chat lines", unit: "ms", lines: &[("chat_p50", "p50"), ("chat_p99", "p99")] },
    Plot { title: "Holds", unit: "ms", lines: &[("hold_p50", "p50"), ("hold_p99", "p99")] },
    Plot { title: "Stock", unit: "units", lines: &[("available", "available")] },
    Plot {
        title: "Stock events",
        unit: "ms",
        lines: &[("stock_event_p50", "p50"), ("stock_event_p99", "p99")],
    },
    Plot { title: "Server's processor", unit: "% of a core", lines: &[("server_cpu", "all threads")] },
    Plot { title: "Server's memory", unit: "MB", lines: &[("server_mb", "resident")] },
    Plot {
        title: "The harness itself",
        unit: "% of a core",
        lines: &[("harness_cpu", "busiest thread"), ("harness_waiting", "waiting for a core")],
    },
];

const STYLE: &str = "
:root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--ink:#1c1b19;--soft:#6b675f;--line:#e4e0d8;--good:#1d7a4c;--bad:#b3261e;--warn:#9a6700;--a:#2d5bd0;--b:#c2571a}
@media(prefers-color-scheme:dark){:root{--bg:#161513;--card:#201f1c;--ink:#ece9e2;--soft:#a39e93;--line:#37342f;--good:#5fc48f;--bad:#ff8a7f;--warn:#e0b050;--a:#8caaff;--b:#f0995e}}
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.45 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:20px 16px 48px}h1{font-size:1.5rem;margin:0 0 2px}h2{font-size:1.05rem;margin:28px 0 10px}
p{margin:4px 0}.soft,figcaption span{color:var(--soft)}.verdict{display:inline-block;padding:2px 12px;border-radius:999px;font-weight:700;color:#fff;margin-bottom:8px}
.passed{background:var(--good)}.failed{background:var(--bad)}.invalid{background:var(--warn)}@media(prefers-color-scheme:dark){.verdict{color:#161513}}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:10px}table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:7px 12px;text-align:right;border-top:1px solid var(--line);font-variant-numeric:tabular-nums;white-space:nowrap}
tr:first-child>*{border-top:0}th{font-weight:600;color:var(--soft)}td:first-child,th:first-child{text-align:left}td.wrap{white-space:normal;text-align:left;min-width:12rem;overflow-wrap:anywhere}
.ok{color:var(--good)}.no{color:var(--bad);font-weight:700}code{font:.85rem ui-monospace,monospace;overflow-wrap:anywhere}
.plots{display:grid;gap:14px;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr))}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:10px;padding:10px 8px 4px}figcaption{padding:0 6px 6px;font-weight:600;display:flex;flex-wrap:wrap;gap:0 12px}
figcaption span{font-weight:400}svg{display:block;width:100%;height:auto}svg text{font-size:13px;fill:var(--soft)}@media(max-width:520px){svg text{font-size:20px}th,td{padding:7px 7px}table{font-size:.82rem}.times td:nth-child(5),.times th:nth-child(5){display:none}.levels code{white-space:normal}}
.levels td:nth-child(2),.levels th:nth-child(2){text-align:left}
.grid{stroke:var(--line)}.mark{stroke:var(--soft);stroke-dasharray:3 4}.l0{stroke:var(--a)}.l1{stroke:var(--b)}circle.l0{fill:var(--a)}circle.l1{fill:var(--b)}path{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.k0{color:var(--a)!important}.k1{color:var(--b)!important}ol,ul{margin:0;padding-left:1.3rem}
";

/// The page.
pub(crate) fn page(report: &Report) -> String {
    let mut page = String::with_capacity(64 * 1024);
    let (class, word) = match (report.invalid.is_empty(), report.passed) {
        (false, _) => ("invalid", "INVALID"),
        (true, true) => ("passed", "PASSED"),
        (true, false) => ("failed", "FAILED"),
    };
    let name = escape(&report.scenario);
    let _ = write!(
        page,
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\
         <title>{word}: {name}</title><style>{STYLE}</style><main><span class='verdict {class}'>{word}</span><h1>{name}</h1>\
         <p>{}</p><p class=soft>{:.0} s against {} · seed {} · {}</p>",
        escape(&report.about),
        report.duration_s,
        escape(&report.target),
        report.seed,
        date(report.started_at_ms),
    );
    for why in &report.invalid {
        let _ = write!(
            page,
            "<p class=no>Not to be trusted: the harness itself was the bottleneck: {}.</p>",
            escape(why)
        );
    }
    levels(&mut page, report);
    distributions(&mut page, report);
    plots(&mut page, report);
    audit(&mut page, report);
    rest(&mut page, report);
    page.push_str("</main></html>\n");
    page
}

fn levels(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Service levels</h2><div class=scroll><table class=levels><tr><th>holds<th>level<th>measured",
    );
    let mut levels: Vec<_> = report.levels.iter().collect();
    levels.sort_by_key(|verdict| verdict.holds);
    for verdict in levels {
        let measured = verdict.measured.map_or("not measured".to_owned(), number);
        let (class, word) = if verdict.holds { ("ok", "yes") } else { ("no", "no") };
        let _ = write!(
            page,
            "<tr><td class={class}>{word}<td><code>{}</code><td>{measured}",
            escape(&verdict.level)
        );
    }
    page.push_str("</table></div>");
}

fn distributions(page: &mut String, report: &Report) {
    if report.distributions.is_empty() {
        return;
    }
    page.push_str(
        "<h2>How long things took, in milliseconds</h2><div class=scroll><table class=times>\
         <tr><th>what<th>p50<th>p90<th>p99<th>p99.9<th>max<th>count",
    );
    for distribution in DISTRIBUTIONS {
        let Some(summary) = report.distributions.get(distribution.name) else { continue };
        let _ = write!(page, "<tr><td title='{}'>{}", escape(distribution.about), distribution.title);
        for value in [summary.p50, summary.p90, summary.p99, summary.p999, summary.max] {
            let _ = write!(page, "<td>{}", value.map_or("–".to_owned(), number));
        }
        let _ = write!(page, "<td>{}", number(summary.count as f64));
    }
    page.push_str("</table></div>");
}

fn plots(page: &mut String, report: &Report) {
    page.push_str("<h2>Second by second</h2><div class=plots>");
    for plot in PLOTS {
        let lines: Vec<_> = plot.lines.iter().filter(|(line, _)| has_values(&report.series, line)).collect();
        if !lines.is_empty() {
            draw(page, plot, &lines, &report.series, &report.notes);
        }
    }
    page.push_str("</div>");
}

fn has_values(series: &Series, line: &str) -> bool {
    series.lines.get(line).is_some_and(|values| values.iter().flatten().any(|value| *value > 0.0))
}

fn draw(
    page: &mut String,
    plot: &Plot,
    lines: &[&(&'static str, &'static str)],
    series: &Series,
    notes: &[Note],
) {
    let _ = write!(page, "<figure><figcaption>{}<span>{}</span>", plot.title, plot.unit);
    for (index, (_, label)) in lines.iter().enumerate() {
        let _ = write!(page, "<span class=k{index}>{label}</span>");
    }
    let end = series.at_s.last().copied().unwrap_or(1.0).max(1.0);
    let values = lines.iter().filter_map(|(line, _)| series.lines.get(*line)).flatten().flatten();
    let top = nice(values.fold(0.0, |most: f64, value| most.max(*value)));
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at / end;
    let y = |value: f64| HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top;
    let _ = write!(
        page,
        "</figcaption><svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{}'>",
        plot.title
    );
    for part in [0.0, 0.5, 1.0] {
        let (value, at) = (top * part, y(top * part));
        let _ = write!(
            page,
            "<line class=grid x1={LEFT} x2={:.0} y1={at:.1} y2={at:.1} /><text x={:.0} y={:.1} text-anchor=end>{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 5.0,
            short(value)
        );
    }
    for part in [0.0, 0.5, 1.0] {
        let anchor = if part == 0.0 {
            "start"
        } else if part == 1.0 {
            "end"
        } else {
            "middle"
        };
        let (at, text) = (x(end * part), (end * part).round());
        let _ = write!(page, "<text x={at:.1} y={:.0} text-anchor={anchor}>{text} s</text>", HEIGHT - 4.0);
    }
    for note in notes {
        let at = x(note.at_s.clamp(0.0, end));
        let bottom = HEIGHT - BOTTOM;
        let _ = write!(
            page,
            "<line class=mark x1={at:.1} x2={at:.1} y1={TOP} y2={bottom}><title>{}</title></line>",
            escape(&note.text)
        );
    }
    for (index, (line, _)) in lines.iter().enumerate() {
        let Some(values) = series.lines.get(*line) else { continue };
        // A line pauses where nothing was measured; a second by itself is a dot.
        let mut path = String::new();
        let value = |at: usize| values.get(at).copied().flatten();
        for (at, time) in series.at_s.iter().enumerate() {
            let Some(height) = value(at).map(y) else { continue };
            let before = at.checked_sub(1).and_then(value).is_some();
            if !before && value(at + 1).is_none() {
                let _ = write!(page, "<circle class=l{index} cx={:.1} cy={height:.1} r=3 />", x(*time));
            } else {
                let _ = write!(path, "{}{:.1} {height:.1}", if before { 'L' } else { 'M' }, x(*time));
            }
        }
        let _ = write!(page, "<path class=l{index} d='{path}'/>");
    }
    page.push_str("</svg></figure>");
}

fn audit(page: &mut String, report: &Report) {
    let Some(audit) = &report.audit else { return };
    let told = |units: Option<u32>| units.map_or("unknown".to_owned(), |units| units.to_string());
    let _ = write!(
        page,
        "<h2>The sale's books</h2><div class=scroll><table><tr><th>units<th>\
         <tr><td>stock<td>{}<tr><td>held, by the buyers' own records<td>{}<tr><td>given back<td>{}\
         <tr><td>confirmed to buyers<td>{}<tr><td>sold, by the ledger<td>{}<tr><td>sold, by the sale<td>{}</table></div>",
        audit.stock,
        audit.held_units,
        audit.released_units,
        audit.confirmed_units,
        told(audit.ledger_units),
        told(audit.sale_sold)
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
        page.push_str("<h2>What happened when</h2>");
        list(page, report.notes.iter().map(|note| format!("{:.0} s: {}", note.at_s, escape(&note.text))), "");
    }
    if !report.complaints.is_empty() {
        page.push_str("<h2>What went wrong</h2><div class=scroll><table><tr><th>what<th>times");
        for (what, times) in &report.complaints {
            let _ = write!(page, "<tr><td class=wrap>{}<td>{}", escape(what), number(*times as f64));
        }
        page.push_str("</table></div>");
    }
    page.push_str("<h2>Everything that was measured</h2><div class=scroll><table><tr><th>measure<th>value");
    for (name, value) in &report.measures {
        let _ = write!(page, "<tr><td><code>{}</code><td>{}", escape(name), number(*value));
    }
    page.push_str("</table></div>");
    if !report.threads.is_empty() {
        page.push_str("<h2>Busiest threads</h2><div class=scroll><table><tr><th>thread<th>of<th>% of a core");
        for (whose, name, busy) in &report.threads {
            let _ = write!(page, "<tr><td>{}<td>{}<td>{}", escape(name), escape(whose), number(*busy));
        }
        page.push_str("</table></div>");
    }
    let _ = write!(
        page,
        "<h2>How this was measured</h2><p class=soft>Lost packets are numbers between the first and the highest that never \
         came, asked for again or not. A freeze is a gap between two whole pictures longer than three times the average of \
         the last 30, and than that average and 150 ms, as in WebRTC's statistics. Percentiles are at most 1.6 % above the \
         truth. Delays run from the publisher's sending to the arrival of the packet that carries the stamp.</p>\
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

/// The least of 1, 2, 2.5 and 5 times a power of ten that is not below a value.
fn nice(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|step| step * power)
        .find(|top| *top >= value)
        .unwrap_or(10.0 * power)
}

/// A number on an axis.
fn short(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => format!("{}k", value / 1_000.0),
        value if value == value.trunc() => format!("{value:.0}"),
        value => format!("{value}"),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

/// Milliseconds since 1970 as a date (H. Hinnant's civil_from_days).
fn date(ms: u64) -> String {
    let (days, seconds) = ((ms / 86_400_000) as i64, ms / 1_000 % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3_600, seconds / 60 % 60)
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
        let page = page(&report);
        assert!(page.contains("FAILED") && page.contains("sale.oversold == 0"));
        assert!(page.contains("<path class=l0 d='M"), "a line is drawn");
        assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
        for outside in ["src=", "@import", "url(", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    #[test]
    fn axes_and_dates() {
        for (value, top) in
            [(0.0, 1.0), (0.7, 1.0), (3.0, 5.0), (21.0, 25.0), (100.0, 100.0), (870.0, 1_000.0)]
        {
            assert_eq!(nice(value), top);
        }
        assert_eq!((short(2_500.0), short(0.5), short(12.5)), ("2.5k".into(), "0.5".into(), "12.5".into()));
        assert_eq!(date(1_790_000_000_000), "2026-09-21 14:13 UTC");
        assert_eq!(date(951_782_400_000), "2000-02-29 00:00 UTC");
    }
}
