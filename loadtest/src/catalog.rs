//! Everything that is measured, each thing in one place: what it is called, what it is about, which way it is better, and
//! what it is counted from. Tallies, levels, reports and comparisons know measures from here alone.

use crate::tally::Count;

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

macro_rules! distributions {
    ($($time:ident, $name:literal, $title:literal, $about:literal;)*) => {
        /// The distributions, in the order of [`DISTRIBUTIONS`].
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Time { $($time,)* }

        /// All distributions.
        pub(crate) const DISTRIBUTIONS: &[Distribution] =
            &[$(Distribution { name: $name, title: $title, about: $about },)*];
    };
}

distributions! {
    JoinAnswer, "join.answer", "Answered", "from the WHEP POST to its answer";
    JoinConnected, "join.connected", "Connected", "from the POST to a complete DTLS handshake";
    JoinFirstPacket, "join.ttfp", "First packet", "from the POST to the first RTP packet";
    JoinFirstPicture, "join.ttff", "First picture", "from the POST to the first complete keyframe";
    JoinSteady, "join.steady", "Steady picture",
        "from the POST to the beginning of the first second of pictures without a gap";
    Delay, "delay", "End-to-end delay",
        "from the publisher's sending of a picture to its arrival at a viewer";
    ChannelJoin, "channel.join", "Channel open", "from the websocket's TCP connect to the reply to hello";
    Chat, "chat", "Chat line", "from sending a chat line to its arrival at each reader";
    StockEvent, "stock_event", "Stock event", "from the answer that moved stock to the event that shows it";
    Pin, "pin", "Pin", "from sending a pin to the event at each reader";
    Hold, "hold", "Hold",
        "from a buyer's tap to what became of it: held, refused for good, or given up; however often it had to be asked";
    Checkout, "checkout", "Checkout",
        "from a buyer's tap on paying to the payment's being taken, or failing for good";
    Confirm, "confirm", "Confirmation", "from paying to the event that says sold";
    Webhook, "webhook", "Webhook", "from paying to the webhook's order.sold";
    MoqConnected, "moq.connected", "MoQ: connected",
        "from the QUIC handshake's first packet to an open MoQ session";
    MoqFirstPicture, "moq.ttff", "MoQ: first picture", "from that first packet to the first whole picture";
    MoqSteady, "moq.steady", "MoQ: steady picture",
        "from that first packet to the beginning of the first second of pictures without a gap";
    MoqDelay, "moq.delay", "MoQ: end-to-end",
        "from the publisher's sending of a picture to its arrival by MoQ";
    DropPicture, "drop.picture", "Back: first picture",
        "from the return of a viewer's network to the first whole picture";
    DropSteady, "drop.steady", "Back: steady picture",
        "from the return of a viewer's network to the beginning of the first second of pictures without a gap";
    DropChannel, "drop.channel", "Back: channel",
        "from the return of a network to the channel's next answer, or the reply to a new hello";
}

/// The statistics of a distribution.
pub(crate) const STATISTICS: [&str; 7] = ["p50", "p90", "p95", "p99", "p999", "max", "mean"];

/// What a number is made from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    /// A counter.
    Count(Count),
    /// A part of a sum of counters, per cent.
    Percent(Count, &'static [Count]),
    /// How often, by hours of a time counted in microseconds.
    PerHour(Count, Count),
    /// Bytes, by a time counted in microseconds, as kilobits a second.
    Kbps(Count, Count),
    /// Whoever knows it says it: the shop, the publisher, the watch.
    Told,
}

/// A measure that is one number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scalar {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) better: Better,
    pub(crate) source: Source,
    /// It tells right from wrong, and no load generator that is too slow can make the one look like the other.
    pub(crate) correctness: bool,
}

impl Scalar {
    const fn correctness(self) -> Self {
        Self { correctness: true, ..self }
    }
}

/// Numbers that are measured only where something is counted: nobody's joins are not perfect joins.
pub(crate) struct Group {
    pub(crate) when: Option<Count>,
    pub(crate) scalars: &'static [Scalar],
}

const fn from(name: &'static str, better: Better, source: Source, about: &'static str) -> Scalar {
    Scalar { name, about, better, source, correctness: false }
}

const fn count(name: &'static str, better: Better, count: Count, about: &'static str) -> Scalar {
    from(name, better, Source::Count(count), about)
}

const fn told(name: &'static str, better: Better, about: &'static str) -> Scalar {
    from(name, better, Source::Told, about)
}

use Better::{Less, More, Neither};
use Source::{Kbps, PerHour, Percent};

type C = Count;
const LAYERS_US: &[C] = &[C::LayerUsF, C::LayerUsH, C::LayerUsQ];

/// All single numbers.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        when: Some(C::JoinAttempts),
        scalars: &[
            count("join.attempts", Neither, C::JoinAttempts, "viewers' sessions that were begun"),
            count(
                "join.failed",
                Less,
                C::JoinFailed,
                "viewers' sessions that were refused or never had a picture",
            ),
            from(
                "join.failed_pct",
                Less,
                Percent(C::JoinFailed, &[C::JoinAttempts]),
                "viewers' sessions that were refused or never had a picture, per cent",
            ),
            count(
                "media.ended",
                Less,
                C::ViewersEnded,
                "viewers' sessions that the server ended, or that fell silent",
            ),
        ],
    },
    Group {
        when: Some(C::Packets),
        scalars: &[
            count(
                "media.packets",
                Neither,
                C::Packets,
                "RTP packets that arrived, each once, resent ones included",
            ),
            count("media.bytes", Neither, C::Bytes, "bytes of the RTP packets that arrived, as UDP payload"),
            count(
                "media.lost",
                Less,
                C::Lost,
                "packets missing from the numbering that never came, resent or not",
            ),
            from(
                "media.loss_pct",
                Less,
                Percent(C::Lost, &[C::Expected]),
                "packets that never came, resent or not, per cent of what should have",
            ),
            from(
                "media.first_loss_pct",
                Less,
                Percent(C::FirstLost, &[C::Expected]),
                "packets that did not come at first, per cent",
            ),
            count(
                "media.repaired",
                Neither,
                C::Repaired,
                "packets that came after they had been asked for again",
            ),
            count("media.duplicates", Less, C::Duplicates, "packets that came twice"),
            count("media.nacks", Neither, C::Nacks, "packets asked for again"),
            count("media.plis", Neither, C::Plis, "keyframes asked for"),
            count("media.decrypted", Neither, C::Decrypted, "packets that were decrypted and authenticated"),
            count(
                "media.decrypt_errors",
                Less,
                C::DecryptErrors,
                "packets that should have been and were not",
            )
            .correctness(),
            count("media.frames", Neither, C::Frames, "pictures that arrived whole"),
            count(
                "media.freezes",
                Less,
                C::Freezes,
                "gaps between pictures longer than max(3 x average, average + 150 ms)",
            ),
            from(
                "media.freezes_per_viewer_hour",
                Less,
                PerHour(C::Freezes, C::WatchedUs),
                "freezes (see media.freezes) by viewing time",
            ),
            from(
                "media.frozen_pct",
                Less,
                Percent(C::FrozenUs, &[C::WatchedUs]),
                "time in freezes, per cent of viewing time",
            ),
            count(
                "media.arrived",
                Neither,
                C::Arrived,
                "RTP datagrams that arrived, also before there were keys and after leaving",
            ),
            from("media.viewer_kbps", More, Kbps(C::Bytes, C::ConnectedUs), "mean bit rate of a viewer"),
        ],
    },
    Group {
        when: Some(C::StampedUs),
        scalars: &[from(
            "media.late_pct",
            Less,
            Percent(C::LateUs, &[C::StampedUs]),
            "time in which what came was later than due by its stamp, per cent of what is decrypted",
        )],
    },
    Group {
        when: Some(C::LayerUsF),
        scalars: &[
            from(
                "media.layer_f_kbps",
                Neither,
                Kbps(C::LayerBytesF, C::LayerUsF),
                "what a viewer gets while sent the largest layer (f)",
            ),
            from(
                "media.layer_f_pct",
                More,
                Percent(C::LayerUsF, LAYERS_US),
                "viewing time in the largest layer, per cent",
            ),
        ],
    },
    Group {
        when: Some(C::LayerUsH),
        scalars: &[
            from(
                "media.layer_h_kbps",
                Neither,
                Kbps(C::LayerBytesH, C::LayerUsH),
                "what a viewer gets while sent the middle layer (h)",
            ),
            from(
                "media.layer_h_pct",
                Neither,
                Percent(C::LayerUsH, LAYERS_US),
                "viewing time in the middle layer, per cent",
            ),
        ],
    },
    Group {
        when: Some(C::LayerUsQ),
        scalars: &[
            from(
                "media.layer_q_kbps",
                Neither,
                Kbps(C::LayerBytesQ, C::LayerUsQ),
                "what a viewer gets while sent the smallest layer (q)",
            ),
            from(
                "media.layer_q_pct",
                Neither,
                Percent(C::LayerUsQ, LAYERS_US),
                "viewing time in the smallest layer, per cent",
            ),
        ],
    },
    Group {
        when: Some(C::MoqAttempts),
        scalars: &[
            count("moq.attempts", Neither, C::MoqAttempts, "MoQ viewers' sessions that were begun"),
            count(
                "moq.failed",
                Less,
                C::MoqFailed,
                "MoQ viewers' sessions that were refused or never had a picture",
            ),
            from(
                "moq.failed_pct",
                Less,
                Percent(C::MoqFailed, &[C::MoqAttempts]),
                "MoQ viewers' sessions that were refused or never had a picture, per cent",
            ),
            count(
                "moq.ended",
                Less,
                C::MoqEnded,
                "MoQ viewers' sessions that the server ended, or that fell silent",
            ),
            count("moq.frames", Neither, C::MoqFrames, "pictures that arrived whole by MoQ"),
            count(
                "moq.broken",
                Less,
                C::MoqBroken,
                "groups of pictures that did not come to their end by MoQ",
            ),
            count("moq.freezes", Less, C::MoqFreezes, "freezes of MoQ viewers, by the rule of media.freezes"),
            from(
                "moq.freezes_per_viewer_hour",
                Less,
                PerHour(C::MoqFreezes, C::MoqWatchedUs),
                "freezes of MoQ viewers by viewing time",
            ),
            from(
                "moq.frozen_pct",
                Less,
                Percent(C::MoqFrozenUs, &[C::MoqWatchedUs]),
                "time in freezes of MoQ viewers, per cent of viewing time",
            ),
            from(
                "moq.viewer_kbps",
                More,
                Kbps(C::MoqBytes, C::MoqConnectedUs),
                "mean bit rate of a MoQ viewer, payload alone",
            ),
        ],
    },
    Group {
        when: Some(C::MoqStampedUs),
        scalars: &[from(
            "moq.late_pct",
            Less,
            Percent(C::MoqLateUs, &[C::MoqStampedUs]),
            "time of MoQ viewers in which pictures were late, by the rule of media.late_pct",
        )],
    },
    Group {
        when: Some(C::DropViewers),
        scalars: &[
            count("drop.viewers", Neither, C::DropViewers, "viewers whose network failed, each time"),
            count(
                "drop.viewers_same",
                Neither,
                C::DropSame,
                "of those, who had steady pictures again on the same session",
            ),
            count(
                "drop.viewers_anew",
                Neither,
                C::DropAnew,
                "of those, who had steady pictures again on a new session",
            ),
            count(
                "drop.viewers_lost",
                Less,
                C::DropLost,
                "of those, who had no steady picture any more, two seconds after their network was back or later",
            ),
            count(
                "drop.discarded",
                Neither,
                C::DropDiscarded,
                "datagrams to viewers that the failed network has discarded",
            ),
        ],
    },
    Group {
        when: Some(C::DropChannels),
        scalars: &[
            count(
                "drop.channels",
                Neither,
                C::DropChannels,
                "people on the channel whose network failed, each time",
            ),
            count("drop.channels_same", Neither, C::DropChannelsSame, "of those, whose connection went on"),
            count("drop.channels_anew", Neither, C::DropChannelsAnew, "of those, who had to connect anew"),
            count(
                "drop.channels_lost",
                Less,
                C::DropChannelsLost,
                "of those, who were not answered any more, two seconds after their network was back or later",
            ),
        ],
    },
    Group {
        when: Some(C::ChannelAttempts),
        scalars: &[
            count("channel.attempts", Neither, C::ChannelAttempts, "channels that were begun"),
            count("channel.failed", Less, C::ChannelFailed, "channels that were refused or never answered"),
            count(
                "channel.closed",
                Less,
                C::ChannelClosed,
                "channels that the server ended, slow readers not counted",
            ),
            count("channel.too_slow", Neither, C::ChannelTooSlow, "slow readers that the server ended"),
            count("channel.events", Neither, C::ChannelEvents, "events that arrived"),
            count(
                "channel.resumed",
                Neither,
                C::ChannelResumed,
                "channels opened anew that were told exactly what they had missed",
            ),
            count(
                "channel.not_resumed",
                Less,
                C::ChannelNotResumed,
                "channels opened anew that got a snapshot alone",
            ),
            count(
                "channel.missed",
                Less,
                C::ChannelMissed,
                "numbered events, chat lines apart, that a reader was not told while others were, slow readers not counted",
            ),
            count("chat.sent", Neither, C::ChatSent, "chat lines sent and accepted"),
            count("chat.refused", Less, C::ChatRefused, "chat lines refused"),
            count("chat.delivered", Neither, C::ChatDelivered, "chat lines that arrived, at all readers"),
        ],
    },
    Group {
        when: Some(C::LikesSent),
        scalars: &[
            count("likes.sent", Neither, C::LikesSent, "likes sent"),
            count("likes.refused", Less, C::LikesRefused, "likes refused"),
        ],
    },
    Group {
        when: None,
        scalars: &[
            told("join.most_at_once", Neither, "most viewers connected at the same time"),
            told(
                "publisher.layer_f_kbps",
                Neither,
                "what is published of the largest layer, or the only one",
            ),
            told("publisher.layer_h_kbps", Neither, "what is published of the middle layer"),
            told("publisher.layer_q_kbps", Neither, "what is published of the smallest layer"),
            told("publisher.returns", Neither, "times that a broadcast which had ended was begun anew"),
            told("channel.most_at_once", Neither, "most channels open at the same time"),
            told("likes.told", Neither, "by how much the total that the room is told has grown"),
            told("sale.offered", Neither, "holds asked for by buyers, repetitions not counted"),
            told(
                "sale.offered_within_s",
                Neither,
                "time from the first hold asked for to the last, of the group of buyers that took longest",
            ),
            told("sale.not_now", Less, "answers to buyers that were none yet, so that they had to ask again"),
            told("sale.abandoned", Neither, "holds that buyers walked away from"),
            told(
                "sale.returned",
                Neither,
                "of those, that ran out in time, so that others could have the units",
            ),
            told(
                "sale.not_returned",
                Less,
                "of those, that had not run out five seconds after their deadline",
            ),
            told(
                "sale.held_after_return",
                Neither,
                "holds that were granted after an abandoned one had run out",
            ),
            told("sale.held", Neither, "holds that were granted"),
            told("sale.refused", Neither, "holds that were refused for want of stock"),
            told("sale.errors", Less, "requests of buyers that failed for another reason"),
            told("sale.unanswered", Less, "holds whose outcome a buyer never learnt"),
            told("sale.double_holds", Less, "requests with the same key that were answered otherwise")
                .correctness(),
            told("sale.released", Neither, "holds given back by buyers"),
            told("sale.confirmed", More, "orders that buyers were told are sold"),
            told("sale.unconfirmed", Less, "payments taken whose order was not told as sold").correctness(),
            told("sale.oversold", Less, "units confirmed beyond the stock, by the buyers or by the ledger")
                .correctness(),
            told(
                "sale.mismatches",
                Less,
                "differences between the ledger, the buyers' own records and the webhooks (with --api-key)",
            )
            .correctness(),
            told(
                "sale.webhooks",
                Neither,
                "order.sold messages of the sale's orders, repetitions not counted",
            ),
            told("sale.webhooks_forged", Less, "messages whose signature was not right").correctness(),
            told(
                "server.cpu_pct",
                Less,
                "the server's processor time, per cent of one core (with --server-pid)",
            ),
            told(
                "server.waiting_pct",
                Neither,
                "how long one of the server's threads waited for a core, which something else had, per cent of the time (with --server-pid)",
            ),
            told(
                "server.shard_cpu_pct",
                Less,
                "mean processor time of the busiest media thread, per cent of a core (from /metrics)",
            ),
            told("server.rss_mb", Less, "the server's memory at its most (with --server-pid)"),
            told(
                "server.rss_growth_kb_per_join",
                Less,
                "the server's memory growth per viewer's session over the second half (with --server-pid)",
            ),
            told(
                "server.rss_growth_mb",
                Less,
                "the server's memory growth from the middle of the run to its end (with --server-pid)",
            ),
            told(
                "server.kb_per_person",
                Less,
                "the server's memory growth, at its most, by viewers and channels at once (with --server-pid)",
            ),
            told("harness.cpu_pct", Neither, "the busiest thread of the harness, per cent of one core"),
            told(
                "harness.waiting_pct",
                Neither,
                "how long one of its threads waited for a core, per cent of the worst three seconds in a row",
            ),
            told(
                "harness.late_ms",
                Less,
                "how late the harness itself was with what it had planned, at most",
            ),
            told("harness.drops", Less, "datagrams the harness' own sockets had no room for"),
            told("harness.kb_per_person", Less, "the harness' memory growth by viewers and channels at once"),
            told("harness.cpu_s", Neither, "processor time of all threads of the harness"),
            told("capacity.viewers", More, "most viewers for whom every level held"),
        ],
    },
];

/// All single numbers, one by one.
pub(crate) fn scalars() -> impl Iterator<Item = &'static Scalar> {
    GROUPS.iter().flat_map(|group| group.scalars)
}

/// The measure's name for a statistic of a distribution.
pub(crate) fn statistic(distribution: &str, statistic: &str) -> String {
    let joint = if distribution.contains('.') { '_' } else { '.' };
    format!("{distribution}{joint}{statistic}_ms")
}

/// The distribution and the statistic that a measure is of, if it is of one.
pub(crate) fn of_distribution(measure: &str) -> Option<(&'static Distribution, &'static str)> {
    DISTRIBUTIONS.iter().find_map(|distribution| {
        let label = STATISTICS.into_iter().find(|label| statistic(distribution.name, label) == measure)?;
        Some((distribution, label))
    })
}

/// The single number of that name.
pub(crate) fn scalar(measure: &str) -> Option<&'static Scalar> {
    scalars().find(|scalar| scalar.name == measure)
}

/// Which way a measure is better.
pub(crate) fn better(measure: &str) -> Better {
    scalar(measure).map_or(Less, |scalar| scalar.better)
}

/// Whether a measure tells right from wrong, however slow the harness was.
pub(crate) fn is_of_correctness(measure: &str) -> bool {
    scalar(measure).is_some_and(|scalar| scalar.correctness)
}

/// What a measure is, for people.
pub(crate) fn about(measure: &str) -> String {
    match (scalar(measure), of_distribution(measure)) {
        (Some(scalar), _) => scalar.about.to_owned(),
        (None, Some((distribution, label))) => format!("{label} of the time {}", distribution.about),
        (None, None) => String::new(),
    }
}

/// The unit of a measure, as its name says it; none for plain numbers of things.
pub(crate) fn unit(measure: &str) -> &'static str {
    let units = [
        ("_ms", "ms"),
        ("_pct", "%"),
        ("_kbps", "kb/s"),
        ("_mb", "MB"),
        ("kb_per_person", "KB each"),
        ("_kb_per_join", "KB a join"),
        ("_per_viewer_hour", "an hour watched"),
        ("_within_s", "s"),
        ("cpu_s", "s"),
        ("media.bytes", "bytes"),
    ];
    units.iter().find(|(end, _)| measure.ends_with(end)).map_or("", |(_, unit)| unit)
}

/// The names of all measures.
pub(crate) fn names() -> Vec<String> {
    let times = DISTRIBUTIONS.iter().flat_map(|d| STATISTICS.iter().map(|s| statistic(d.name, s)));
    times.chain(scalars().map(|scalar| scalar.name.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_measure_has_one_name_and_a_way_back() {
        let names = names();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "each once");
        for name in &names {
            assert!(!about(name).is_empty(), "{name}");
        }
        assert_eq!(DISTRIBUTIONS[Time::Webhook as usize].name, "webhook");
        assert_eq!(DISTRIBUTIONS[Time::DropChannel as usize].name, "drop.channel");
        let (of, label) = of_distribution("moq.delay_p999_ms").unwrap();
        assert_eq!((of.name, label), ("moq.delay", "p999"));
        assert_eq!(about("join.ttff_p95_ms"), "p95 of the time from the POST to the first complete keyframe");
        assert_eq!((better("join.ttff_p95_ms"), better("media.viewer_kbps")), (Less, More));
        assert!(is_of_correctness("sale.oversold") && !is_of_correctness("hold.p99_ms"));
        assert_eq!((unit("hold.p99_ms"), unit("media.loss_pct"), unit("sale.held")), ("ms", "%", ""));
    }
}
