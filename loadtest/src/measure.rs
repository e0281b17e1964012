//! From what was counted to the measures that levels, reports and comparisons name.

use std::collections::BTreeMap;

use crate::{
    clip::LAYERS,
    histogram::Histogram,
    level::{DISTRIBUTIONS, STATISTICS, statistic},
    tally::{Count, Tally},
};

/// Measures by name.
pub(crate) type Measures = BTreeMap<String, f64>;

/// The measures of a tally. Those of kinds of actors that were not there are left out: nobody's joins are not perfect
/// joins.
pub(crate) fn of_tally(tally: &Tally) -> Measures {
    let mut measures = Measures::new();
    for (distribution, histogram) in DISTRIBUTIONS.iter().zip(tally.times()) {
        statistics(&mut measures, distribution.name, histogram);
    }
    let mut put = |name: &str, value: f64| {
        measures.insert(name.to_owned(), value);
    };
    let get = |count| tally.get(count) as f64;
    let percent = |part: f64, whole: f64| if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
    if tally.get(Count::JoinAttempts) > 0 {
        put("join.attempts", get(Count::JoinAttempts));
        put("join.failed", get(Count::JoinFailed));
        put("join.failed_pct", percent(get(Count::JoinFailed), get(Count::JoinAttempts)));
        put("media.ended", get(Count::ViewersEnded));
    }
    if tally.get(Count::Packets) > 0 {
        for (name, count) in [
            ("media.packets", Count::Packets),
            ("media.bytes", Count::Bytes),
            ("media.lost", Count::Lost),
            ("media.repaired", Count::Repaired),
            ("media.duplicates", Count::Duplicates),
            ("media.nacks", Count::Nacks),
            ("media.plis", Count::Plis),
            ("media.decrypted", Count::Decrypted),
            ("media.decrypt_errors", Count::DecryptErrors),
            ("media.frames", Count::Frames),
            ("media.freezes", Count::Freezes),
            ("media.arrived", Count::Arrived),
        ] {
            put(name, get(count));
        }
        put("media.loss_pct", percent(get(Count::Lost), get(Count::Expected)));
        put("media.first_loss_pct", percent(get(Count::FirstLost), get(Count::Expected)));
        let watched_s = get(Count::WatchedUs) / 1e6;
        if watched_s > 0.0 {
            put("media.freezes_per_viewer_hour", get(Count::Freezes) * 3_600.0 / watched_s);
            put("media.frozen_pct", percent(get(Count::FrozenUs), get(Count::WatchedUs)));
        }
        if tally.get(Count::StampedUs) > 0 {
            put("media.late_pct", percent(get(Count::LateUs), get(Count::StampedUs)));
        }
        let connected_s = get(Count::ConnectedUs) / 1e6;
        if connected_s > 0.0 {
            put("media.viewer_kbps", get(Count::Bytes) * 8.0 / 1_000.0 / connected_s);
        }
    }
    let layers_us: u64 = Count::LAYERS.iter().map(|(_, us)| tally.get(*us)).sum();
    for (name, (bytes, us)) in LAYERS.iter().zip(Count::LAYERS) {
        if tally.get(us) > 0 {
            put(&format!("media.layer_{name}_kbps"), get(bytes) * 8_000.0 / get(us));
            put(&format!("media.layer_{name}_pct"), percent(get(us), layers_us as f64));
        }
    }
    if tally.get(Count::MoqAttempts) > 0 {
        for (name, count) in [
            ("moq.attempts", Count::MoqAttempts),
            ("moq.failed", Count::MoqFailed),
            ("moq.ended", Count::MoqEnded),
            ("moq.frames", Count::MoqFrames),
            ("moq.broken", Count::MoqBroken),
            ("moq.freezes", Count::MoqFreezes),
        ] {
            put(name, get(count));
        }
        put("moq.failed_pct", percent(get(Count::MoqFailed), get(Count::MoqAttempts)));
        let watched_s = get(Count::MoqWatchedUs) / 1e6;
        if watched_s > 0.0 {
            put("moq.freezes_per_viewer_hour", get(Count::MoqFreezes) * 3_600.0 / watched_s);
            put("moq.frozen_pct", percent(get(Count::MoqFrozenUs), get(Count::MoqWatchedUs)));
        }
        if tally.get(Count::MoqStampedUs) > 0 {
            put("moq.late_pct", percent(get(Count::MoqLateUs), get(Count::MoqStampedUs)));
        }
        if tally.get(Count::MoqConnectedUs) > 0 {
            put("moq.viewer_kbps", get(Count::MoqBytes) * 8_000.0 / get(Count::MoqConnectedUs));
        }
    }
    if tally.get(Count::DropViewers) > 0 {
        for (name, count) in [
            ("drop.viewers", Count::DropViewers),
            ("drop.viewers_same", Count::DropSame),
            ("drop.viewers_anew", Count::DropAnew),
            ("drop.viewers_lost", Count::DropLost),
            ("drop.discarded", Count::DropDiscarded),
        ] {
            put(name, get(count));
        }
    }
    if tally.get(Count::DropChannels) > 0 {
        for (name, count) in [
            ("drop.channels", Count::DropChannels),
            ("drop.channels_same", Count::DropChannelsSame),
            ("drop.channels_anew", Count::DropChannelsAnew),
            ("drop.channels_lost", Count::DropChannelsLost),
        ] {
            put(name, get(count));
        }
    }
    if tally.get(Count::LikesSent) > 0 {
        put("likes.sent", get(Count::LikesSent));
        put("likes.refused", get(Count::LikesRefused));
    }
    if tally.get(Count::ChannelAttempts) > 0 {
        for (name, count) in [
            ("channel.attempts", Count::ChannelAttempts),
            ("channel.failed", Count::ChannelFailed),
            ("channel.closed", Count::ChannelClosed),
            ("channel.too_slow", Count::ChannelTooSlow),
            ("channel.events", Count::ChannelEvents),
            ("channel.resumed", Count::ChannelResumed),
            ("channel.not_resumed", Count::ChannelNotResumed),
            ("channel.missed", Count::ChannelMissed),
            ("chat.sent", Count::ChatSent),
            ("chat.refused", Count::ChatRefused),
            ("chat.delivered", Count::ChatDelivered),
        ] {
            put(name, get(count));
        }
    }
    measures
}

fn statistics(measures: &mut Measures, name: &str, histogram: &Histogram) {
    let values = [
        histogram.quantile_us(0.5).map(|us| us as f64),
        histogram.quantile_us(0.9).map(|us| us as f64),
        histogram.quantile_us(0.95).map(|us| us as f64),
        histogram.quantile_us(0.99).map(|us| us as f64),
        histogram.quantile_us(0.999).map(|us| us as f64),
        histogram.max_us().map(|us| us as f64),
        histogram.mean_us(),
    ];
    for (label, value) in STATISTICS.iter().zip(values) {
        if let Some(us) = value {
            measures.insert(statistic(name, label), us / 1_000.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{level::SCALARS, tally::Time};

    #[test]
    fn every_measure_has_a_name_that_levels_know() {
        let known = |name: &String| {
            SCALARS.iter().any(|scalar| scalar.name == name)
                || DISTRIBUTIONS.iter().any(|d| STATISTICS.iter().any(|s| statistic(d.name, s) == *name))
        };
        for name in of_tally(&Tally::full()).keys() {
            assert!(known(name), "{name}");
        }
        let mut tally = Tally::default();
        for count in [Count::Packets, Count::LayerUsF, Count::LayerBytesF] {
            tally.count(count, 100);
        }
        tally.count(Count::Expected, 200);
        tally.count(Count::Lost, 1);
        tally.record(Time::Hold, Duration::from_millis(12));
        let measures = of_tally(&tally);
        assert_eq!(measures["media.loss_pct"], 0.5);
        assert_eq!(measures["hold.max_ms"], 12.0);
        assert_eq!((measures["media.layer_f_kbps"], measures["media.layer_f_pct"]), (8_000.0, 100.0));
        assert!(!measures.contains_key("media.layer_q_kbps"), "nobody had that one");
        assert!(of_tally(&Tally::default()).is_empty(), "nothing happened, so nothing is said");
    }
}
