//! Lines over the run's time, drawn as SVG.

use std::fmt::Write as _;

use super::escape;
use crate::report::{Note, Report, Series, number};

/// The drawing's own units; it is as wide as the page.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 200.0;
const LEFT: f64 = 50.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 20.0;
/// Room for the number of something that happened.
const NUMBER: f64 = 26.0;
const BOTTOM: f64 = 24.0;

/// A plot.
struct Plot {
    title: &'static str,
    unit: &'static str,
    /// The series' lines, and what they are called here.
    lines: &'static [(&'static str, &'static str)],
}

const fn plot(
    title: &'static str,
    unit: &'static str,
    lines: &'static [(&'static str, &'static str)],
) -> Plot {
    Plot { title, unit, lines }
}

const PLOTS: &[Plot] = &[
    plot("Who was there", "people", &[("viewers", "viewers"), ("channels", "channels")]),
    plot("Joins", "first pictures a second", &[("joins", "joins")]),
    plot("First picture", "ms", &[("ttff_p50", "p50"), ("ttff_p95", "p95")]),
    plot("End-to-end delay", "ms", &[("delay_p50", "p50"), ("delay_p99", "p99")]),
    plot("Received", "Mb/s", &[("mbps", "all viewers")]),
    plot(
        "Received by layer",
        "Mb/s",
        &[("layer_f_mbps", "largest (f)"), ("layer_h_mbps", "middle (h)"), ("layer_q_mbps", "smallest (q)")],
    ),
    plot("MoQ: first picture", "ms", &[("moq_ttff_p50", "p50"), ("moq_ttff_p95", "p95")]),
    plot("MoQ: end-to-end delay", "ms", &[("moq_delay_p50", "p50"), ("moq_delay_p99", "p99")]),
    plot("Trouble with the picture", "a second", &[("lost", "packets lost"), ("freezes", "freezes")]),
    plot("Networks that failed", "people", &[("away", "not back yet")]),
    plot("Chat lines", "ms", &[("chat_p50", "p50"), ("chat_p99", "p99")]),
    plot("Holds", "ms", &[("hold_p50", "p50"), ("hold_p99", "p99")]),
    plot("Stock", "units left", &[("available", "available")]),
    plot("Stock events", "ms", &[("stock_event_p50", "p50"), ("stock_event_p99", "p99")]),
    plot(
        "Server's processor",
        "% of a core",
        &[("server_cpu", "all threads"), ("server_waiting", "one waiting for a core")],
    ),
    plot(
        "Server's media threads",
        "% of a core",
        &[("shard_0", "shard 0"), ("shard_1", "shard 1"), ("shard_2", "shard 2"), ("shard_3", "shard 3")],
    ),
    plot("Server's memory", "MB", &[("server_mb", "resident")]),
    plot(
        "The harness itself",
        "% of a core",
        &[("harness_cpu", "busiest thread"), ("harness_waiting", "waiting for a core")],
    ),
    plot("The harness' timers", "ms", &[("harness_late", "late at most")]),
];

/// All plots that have something to show.
pub(super) fn all(page: &mut String, report: &Report) {
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
    let _ = write!(page, "<figure><figcaption>{}", plot.title);
    if plot.lines.len() > 1 {
        for (index, (_, label)) in lines.iter().enumerate() {
            let _ = write!(page, "<span class='key k{index}'>{label}</span>");
        }
    }
    let end = series.at_s.last().copied().unwrap_or(1.0).max(1.0);
    let values = lines.iter().filter_map(|(line, _)| series.lines.get(*line)).flatten().flatten();
    let most = values.fold(0.0, |most: f64, value| most.max(*value));
    let top = nice(most);
    let _ = write!(page, "<span class=most>at most {} {}</span>", number(most), plot.unit);
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
            LEFT - 7.0,
            at + 5.0,
            short(value)
        );
    }
    for (part, anchor) in [(0.0, "start"), (0.5, "middle"), (1.0, "end")] {
        let (at, text) = (x(end * part), (end * part).round());
        let _ = write!(page, "<text x={at:.1} y={:.0} text-anchor={anchor}>{text} s</text>", HEIGHT - 4.0);
    }
    let mut free_from = LEFT;
    for (index, note) in notes.iter().enumerate() {
        let at = x(note.at_s.clamp(0.0, end));
        // Where several happen at once, the first has the number.
        if at >= free_from {
            let _ = write!(
                page,
                "<text class=number x={at:.1} y={} text-anchor=middle>{}</text>",
                TOP - 3.0,
                index + 1
            );
            free_from = at + NUMBER;
        }
        let bottom = HEIGHT - BOTTOM;
        let _ = write!(
            page,
            "<line class=mark x1={at:.1} x2={at:.1} y1={TOP} y2={bottom}><title>{:.0} s: {}</title></line>",
            note.at_s,
            escape(&note.text)
        );
    }
    for (index, (line, _)) in lines.iter().enumerate() {
        let Some(values) = series.lines.get(*line) else { continue };
        let points: Vec<_> =
            series.at_s.iter().map(|at| x(*at)).zip(values.iter().map(|v| v.map(y))).collect();
        curve(page, index, lines.len() == 1, &points);
    }
    page.push_str("</svg></figure>");
}

/// A line pauses where nothing was measured; a second by itself is a dot. One that is alone stands on its shade.
fn curve(page: &mut String, index: usize, shaded: bool, points: &[(f64, Option<f64>)]) {
    let runs = points.split(|(_, height)| height.is_none()).filter(|run| !run.is_empty());
    let mut path = String::new();
    for run in runs {
        let places: Vec<_> = run.iter().filter_map(|(at, height)| Some((*at, (*height)?))).collect();
        let [(first, height), rest @ ..] = &places[..] else { continue };
        let Some((last, _)) = rest.last() else {
            let _ = write!(page, "<circle class=l{index} cx={first:.1} cy={height:.1} r=3 />");
            continue;
        };
        let mut line = format!("M{first:.1} {height:.1}");
        for (at, height) in rest {
            let _ = write!(line, "L{at:.1} {height:.1}");
        }
        if shaded {
            let bottom = HEIGHT - BOTTOM;
            let _ = write!(
                page,
                "<path class='area l{index}' d='{line}L{last:.1} {bottom}L{first:.1} {bottom}Z'/>"
            );
        }
        path += &line;
    }
    let _ = write!(page, "<path class=l{index} d='{path}'/>");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in
            [(0.0, 1.0), (0.7, 1.0), (3.0, 5.0), (21.0, 25.0), (100.0, 100.0), (870.0, 1_000.0)]
        {
            assert_eq!(nice(value), top);
        }
        assert_eq!((short(2_500.0), short(0.5), short(12.5)), ("2.5k".into(), "0.5".into(), "12.5".into()));
    }

    #[test]
    fn lines_pause_where_nothing_was_measured() {
        let mut page = String::new();
        let points = [(0.0, Some(1.0)), (1.0, Some(2.0)), (2.0, None), (3.0, Some(3.0)), (4.0, None)];
        curve(&mut page, 0, false, &points);
        assert!(page.contains("M0.0 1.0L1.0 2.0'"), "{page}");
        assert!(page.contains("<circle class=l0 cx=3.0 cy=3.0"), "{page}");
    }
}
