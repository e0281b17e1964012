//! Service levels: what must hold for a run to pass, such as `join.ttff_p95_ms <= 800`.
//!
//! Here too is the list of everything that is measured: levels, reports and comparisons know measures by these names.

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Deserializer};

use crate::suggest;

/// Which way a measure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Less,
    More,
    /// Neither: it says what happened.
    Neither,
}

/// A distribution of times: it has the measures `NAME_p95_ms` and so on, or `NAME.p95_ms` where the name has no dot.
pub(crate) struct Distribution {
    pub(crate) name: &'static str,
    /// For people, in the report.
    pub(crate) title: &'static str,
    pub(crate) about: &'static str,
}

/// A measure that is one number.
pub(crate) struct Scalar {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) better: Better,
}

const fn times(name: &'static str, title: &'static str, about: &'static str) -> Distribution {
    Distribution { name, title, about }
}

const fn scalar(name: &'static str, better: Better, about: &'static str) -> Scalar {
    Scalar { name, about, better }
}

/// All distributions.
pub(crate) const DISTRIBUTIONS: &[Distribution] = &[
    times("join.answer", "Answered", "from the WHEP POST to its answer"),
    times("join.connected", "Connected", "from the POST to a complete DTLS handshake"),
    times("join.ttfp", "First packet", "from the POST to the first RTP packet"),
    times("join.ttff", "First picture", "from the POST to the first complete keyframe"),
    times(
        "join.steady",
        "Steady picture",
        "from the POST to the beginning of the first second of pictures without a gap",
    ),
    times(
        "delay",
        "End-to-end delay",
        "from the publisher's sending of a picture to its arrival at a viewer",
    ),
    times("channel.join", "Channel open", "from the websocket's TCP connect to the reply to hello"),
    times("chat", "Chat line", "from sending a chat line to its arrival at each reader"),
    times("stock_event", "Stock event", "from the answer that moved stock to the event that shows it"),
    times("pin", "Pin", "from sending a pin to the event at each reader"),
    times(
        "hold",
        "Hold",
        "from a buyer's tap to what became of it: held, refused for good, or given up; however often it had to be asked",
    ),
    times(
        "checkout",
        "Checkout",
        "from a buyer's tap on paying to the payment's being taken, or failing for good",
    ),
    times("confirm", "Confirmation", "from paying to the event that says sold"),
    times("webhook", "Webhook", "from paying to the webhook's order.sold"),
    times("moq.connected", "MoQ: connected", "from the QUIC handshake's first packet to an open MoQ session"),
    times("moq.ttff", "MoQ: first picture", "from that first packet to the first whole picture"),
    times(
        "moq.steady",
        "MoQ: steady picture",
        "from that first packet to the beginning of the first second of pictures without a gap",
    ),
    times("moq.delay", "MoQ: end-to-end", "from the publisher's sending of a picture to its arrival by MoQ"),
    times(
        "drop.picture",
        "Back: first picture",
        "from the return of a viewer's network to the first whole picture",
    ),
    times(
        "drop.steady",
        "Back: steady picture",
        "from the return of a viewer's network to the beginning of the first second of pictures without a gap",
    ),
    times(
        "drop.channel",
        "Back: channel",
        "from the return of a network to the channel's next answer, or the reply to a new hello",
    ),
];

/// The statistics of a distribution.
pub(crate) const STATISTICS: [&str; 7] = ["p50", "p90", "p95", "p99", "p999", "max", "mean"];

/// All single numbers.
pub(crate) const SCALARS: &[Scalar] = &[
    scalar("join.attempts", Better::Neither, "viewers' sessions that were begun"),
    scalar("join.failed", Better::Less, "viewers' sessions that were refused or never had a picture"),
    scalar(
        "join.failed_pct",
        Better::Less,
        "viewers' sessions that were refused or never had a picture, per cent",
    ),
    scalar("join.most_at_once", Better::Neither, "most viewers connected at the same time"),
    scalar("media.packets", Better::Neither, "RTP packets that arrived, each once, resent ones included"),
    scalar("media.bytes", Better::Neither, "bytes of the RTP packets that arrived, as UDP payload"),
    scalar("media.lost", Better::Less, "packets missing from the numbering that never came, resent or not"),
    scalar(
        "media.loss_pct",
        Better::Less,
        "packets that never came, resent or not, per cent of what should have",
    ),
    scalar("media.first_loss_pct", Better::Less, "packets that did not come at first, per cent"),
    scalar("media.repaired", Better::Neither, "packets that came after they had been asked for again"),
    scalar("media.duplicates", Better::Less, "packets that came twice"),
    scalar("media.nacks", Better::Neither, "packets asked for again"),
    scalar("media.plis", Better::Neither, "keyframes asked for"),
    scalar("media.decrypted", Better::Neither, "packets that were decrypted and authenticated"),
    scalar("media.decrypt_errors", Better::Less, "packets that should have been and were not"),
    scalar("media.frames", Better::Neither, "pictures that arrived whole"),
    scalar(
        "media.freezes",
        Better::Less,
        "gaps between pictures longer than max(3 x average, average + 150 ms)",
    ),
    scalar("media.freezes_per_viewer_hour", Better::Less, "freezes (see media.freezes) by viewing time"),
    scalar("media.frozen_pct", Better::Less, "time in freezes, per cent of viewing time"),
    scalar(
        "media.late_pct",
        Better::Less,
        "time in which what came was later than due by its stamp, per cent of what is decrypted",
    ),
    scalar(
        "media.arrived",
        Better::Neither,
        "RTP datagrams that arrived, also before there were keys and after leaving",
    ),
    scalar("media.ended", Better::Less, "viewers' sessions that the server ended, or that fell silent"),
    scalar("media.viewer_kbps", Better::More, "mean bit rate of a viewer"),
    scalar("media.layer_f_kbps", Better::Neither, "what a viewer gets while sent the largest layer (f)"),
    scalar("media.layer_h_kbps", Better::Neither, "what a viewer gets while sent the middle layer (h)"),
    scalar("media.layer_q_kbps", Better::Neither, "what a viewer gets while sent the smallest layer (q)"),
    scalar("media.layer_f_pct", Better::More, "viewing time in the largest layer, per cent"),
    scalar("media.layer_h_pct", Better::Neither, "viewing time in the middle layer, per cent"),
    scalar("media.layer_q_pct", Better::Neither, "viewing time in the smallest layer, per cent"),
    scalar(
        "publisher.layer_f_kbps",
        Better::Neither,
        "what is published of the largest layer, or the only one",
    ),
    scalar("publisher.layer_h_kbps", Better::Neither, "what is published of the middle layer"),
    scalar("publisher.layer_q_kbps", Better::Neither, "what is published of the smallest layer"),
    scalar("publisher.returns", Better::Neither, "times that a broadcast which had ended was begun anew"),
    scalar("moq.attempts", Better::Neither, "MoQ viewers' sessions that were begun"),
    scalar("moq.failed", Better::Less, "MoQ viewers' sessions that were refused or never had a picture"),
    scalar(
        "moq.failed_pct",
        Better::Less,
        "MoQ viewers' sessions that were refused or never had a picture, per cent",
    ),
    scalar("moq.ended", Better::Less, "MoQ viewers' sessions that the server ended, or that fell silent"),
    scalar("moq.frames", Better::Neither, "pictures that arrived whole by MoQ"),
    scalar("moq.broken", Better::Less, "groups of pictures that did not come to their end by MoQ"),
    scalar("moq.freezes", Better::Less, "freezes of MoQ viewers, by the rule of media.freezes"),
    scalar("moq.freezes_per_viewer_hour", Better::Less, "freezes of MoQ viewers by viewing time"),
    scalar("moq.frozen_pct", Better::Less, "time in freezes of MoQ viewers, per cent of viewing time"),
    scalar(
        "moq.late_pct",
        Better::Less,
        "time of MoQ viewers in which pictures were late, by the rule of media.late_pct",
    ),
    scalar("moq.viewer_kbps", Better::More, "mean bit rate of a MoQ viewer, payload alone"),
    scalar("drop.viewers", Better::Neither, "viewers whose network failed, each time"),
    scalar(
        "drop.viewers_same",
        Better::Neither,
        "of those, who had steady pictures again on the same session",
    ),
    scalar("drop.viewers_anew", Better::Neither, "of those, who had steady pictures again on a new session"),
    scalar(
        "drop.viewers_lost",
        Better::Less,
        "of those, who had no steady picture any more, two seconds after their network was back or later",
    ),
    scalar("drop.discarded", Better::Neither, "datagrams to viewers that the failed network has discarded"),
    scalar("drop.channels", Better::Neither, "people on the channel whose network failed, each time"),
    scalar("drop.channels_same", Better::Neither, "of those, whose connection went on"),
    scalar("drop.channels_anew", Better::Neither, "of those, who had to connect anew"),
    scalar(
        "drop.channels_lost",
        Better::Less,
        "of those, who were not answered any more, two seconds after their network was back or later",
    ),
    scalar("channel.attempts", Better::Neither, "channels that were begun"),
    scalar("channel.failed", Better::Less, "channels that were refused or never answered"),
    scalar("channel.closed", Better::Less, "channels that the server ended, slow readers not counted"),
    scalar("channel.too_slow", Better::Neither, "slow readers that the server ended"),
    scalar("channel.most_at_once", Better::Neither, "most channels open at the same time"),
    scalar("channel.events", Better::Neither, "events that arrived"),
    scalar(
        "channel.resumed",
        Better::Neither,
        "channels opened anew that were told exactly what they had missed",
    ),
    scalar("channel.not_resumed", Better::Less, "channels opened anew that got a snapshot alone"),
    scalar(
        "channel.missed",
        Better::Less,
        "numbered events, chat lines apart, that a reader was not told while others were, slow readers not counted",
    ),
    scalar("chat.sent", Better::Neither, "chat lines sent and accepted"),
    scalar("chat.refused", Better::Less, "chat lines refused"),
    scalar("chat.delivered", Better::Neither, "chat lines that arrived, at all readers"),
    scalar("likes.sent", Better::Neither, "likes sent"),
    scalar("likes.refused", Better::Less, "likes refused"),
    scalar("likes.told", Better::Neither, "by how much the total that the room is told has grown"),
    scalar("sale.offered", Better::Neither, "holds asked for by buyers, repetitions not counted"),
    scalar(
        "sale.offered_within_s",
        Better::Neither,
        "time from the first hold asked for to the last, of the group of buyers that took longest",
    ),
    scalar(
        "sale.not_now",
        Better::Less,
        "answers to buyers that were none yet, so that they had to ask again",
    ),
    scalar("sale.abandoned", Better::Neither, "holds that buyers walked away from"),
    scalar(
        "sale.returned",
        Better::Neither,
        "of those, that ran out in time, so that others could have the units",
    ),
    scalar(
        "sale.not_returned",
        Better::Less,
        "of those, that had not run out five seconds after their deadline",
    ),
    scalar(
        "sale.held_after_return",
        Better::Neither,
        "holds that were granted after an abandoned one had run out",
    ),
    scalar("sale.held", Better::Neither, "holds that were granted"),
    scalar("sale.refused", Better::Neither, "holds that were refused for want of stock"),
    scalar("sale.errors", Better::Less, "requests of buyers that failed for another reason"),
    scalar("sale.unanswered", Better::Less, "holds whose outcome a buyer never learnt"),
    scalar("sale.double_holds", Better::Less, "requests with the same key that were answered otherwise"),
    scalar("sale.released", Better::Neither, "holds given back by buyers"),
    scalar("sale.confirmed", Better::More, "orders that buyers were told are sold"),
    scalar("sale.unconfirmed", Better::Less, "payments taken whose order was not told as sold"),
    scalar("sale.oversold", Better::Less, "units confirmed beyond the stock, by the buyers or by the ledger"),
    scalar(
        "sale.mismatches",
        Better::Less,
        "differences between the ledger, the buyers' own records and the webhooks (with --api-key)",
    ),
    scalar(
        "sale.webhooks",
        Better::Neither,
        "order.sold messages of the sale's orders, repetitions not counted",
    ),
    scalar("sale.webhooks_forged", Better::Less, "messages whose signature was not right"),
    scalar(
        "server.cpu_pct",
        Better::Less,
        "the server's processor time, per cent of one core (with --server-pid)",
    ),
    scalar(
        "server.shard_cpu_pct",
        Better::Less,
        "mean processor time of the busiest media thread, per cent of a core (from /metrics)",
    ),
    scalar("server.rss_mb", Better::Less, "the server's memory at its most (with --server-pid)"),
    scalar(
        "server.rss_growth_kb_per_join",
        Better::Less,
        "the server's memory growth per viewer's session over the second half (with --server-pid)",
    ),
    scalar("harness.cpu_pct", Better::Neither, "the busiest thread of the harness, per cent of one core"),
    scalar(
        "harness.waiting_pct",
        Better::Neither,
        "how long one of its threads waited for a core, per cent of the time",
    ),
    scalar(
        "harness.late_ms",
        Better::Less,
        "how late the harness itself was with what it had planned, at most",
    ),
    scalar("harness.drops", Better::Less, "datagrams the harness' own sockets had no room for"),
    scalar("harness.kb_per_viewer", Better::Less, "the harness' memory by viewer"),
    scalar("harness.cpu_s", Better::Neither, "processor time of all threads of the harness"),
    scalar("capacity.viewers", Better::More, "most viewers for whom every level held"),
];

/// The measure's name for a statistic of a distribution.
pub(crate) fn statistic(distribution: &str, statistic: &str) -> String {
    let joint = if distribution.contains('.') { '_' } else { '.' };
    format!("{distribution}{joint}{statistic}_ms")
}

/// Which way a measure is better.
pub(crate) fn better(measure: &str) -> Better {
    SCALARS.iter().find(|scalar| scalar.name == measure).map_or(Better::Less, |scalar| scalar.better)
}

fn names() -> Vec<String> {
    let times = DISTRIBUTIONS.iter().flat_map(|d| STATISTICS.iter().map(|s| statistic(d.name, s)));
    times.chain(SCALARS.iter().map(|scalar| scalar.name.to_owned())).collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    AtMost,
    Below,
    AtLeast,
    Above,
    Equal,
}

const RELATIONS: [(&str, Relation); 5] = [
    // Longer ones first: "<" is the beginning of "<=".
    ("<=", Relation::AtMost),
    (">=", Relation::AtLeast),
    ("==", Relation::Equal),
    ("<", Relation::Below),
    (">", Relation::Above),
];

/// One service level.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Level {
    pub(crate) measure: String,
    relation: Relation,
    bound: f64,
}

/// What became of a level.
#[derive(Debug, Clone, PartialEq, serde::Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The level as it was written.
    pub(crate) level: String,
    /// What was measured; absent where nothing was.
    pub(crate) measured: Option<f64>,
    pub(crate) holds: bool,
}

impl Level {
    /// Judges by what was measured. A level about something that was not measured does not hold: a run in which nobody
    /// joined has no slow joins either.
    pub(crate) fn judge(&self, measures: &BTreeMap<String, f64>) -> Verdict {
        let measured = measures.get(&self.measure).copied();
        let holds = measured.is_some_and(|measured| match self.relation {
            Relation::AtMost => measured <= self.bound,
            Relation::Below => measured < self.bound,
            Relation::AtLeast => measured >= self.bound,
            Relation::Above => measured > self.bound,
            Relation::Equal => measured == self.bound,
        });
        Verdict { level: self.to_string(), measured, holds }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = RELATIONS.iter().find_map(|(sign, relation)| {
            text.split_once(sign).map(|(measure, bound)| (measure.trim(), *relation, bound.trim()))
        });
        let Some((measure, relation, bound)) = found else {
            return Err(format!("{text:?} has no comparison: write it like join.ttff_p95_ms <= 800"));
        };
        let bound: f64 = bound.parse().map_err(|_| format!("{bound:?} in {text:?} is no number"))?;
        let names = names();
        if !names.iter().any(|name| name == measure) {
            let hint = suggest::nearest(measure, names.iter().map(String::as_str));
            let hint = hint.map(|name| format!(": did you mean {name}?")).unwrap_or_default();
            return Err(format!(
                "nothing called {measure} is measured{hint} (haul-loadtest measures lists all)"
            ));
        }
        Ok(Self { measure: measure.to_owned(), relation, bound })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign =
            RELATIONS.iter().find(|(_, relation)| *relation == self.relation).map_or("?", |pair| pair.0);
        write!(f, "{} {sign} {}", self.measure, self.bound)
    }
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(level: &str, measured: Option<f64>) -> bool {
        let level: Level = level.parse().unwrap();
        let measures = measured.map(|value| (level.measure.clone(), value)).into_iter().collect();
        level.judge(&measures).holds
    }

    #[test]
    fn levels_hold_by_what_was_measured() {
        assert!(judge("join.ttff_p95_ms <= 800", Some(800.0)));
        assert!(!judge("join.ttff_p95_ms <= 800", Some(800.1)));
        assert!(!judge("join.ttff_p95_ms < 800", Some(800.0)));
        assert!(judge("stock_event.p99_ms<=500", Some(3.0)));
        assert!(judge("sale.oversold == 0", Some(0.0)));
        assert!(!judge("sale.oversold == 0", Some(1.0)));
        assert!(judge("capacity.viewers >= 100", Some(100.0)));
        assert!(!judge("capacity.viewers > 100", Some(100.0)));
        assert!(!judge("sale.oversold == 0", None), "what was not measured does not hold");
    }

    #[test]
    fn levels_are_read_strictly_and_written_as_they_were() {
        let level: Level = "media.loss_pct   <=0.5".parse().unwrap();
        assert_eq!(level.to_string(), "media.loss_pct <= 0.5");
        for (text, expected) in [
            ("join.ttff_p95_ms 800", "no comparison"),
            ("join.ttff_p95_ms <= fast", "no number"),
            ("stock_evnt.p99_ms <= 1", "did you mean stock_event.p99_ms?"),
        ] {
            assert!(text.parse::<Level>().unwrap_err().contains(expected), "{text}");
        }
        assert_eq!(better("join.ttff_p95_ms"), Better::Less);
        assert_eq!(better("media.viewer_kbps"), Better::More);
    }
}
