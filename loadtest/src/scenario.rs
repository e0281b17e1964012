//! Scenarios: who comes when, does what, and what must hold. TOML, as in `configs/loadtest/`.
//!
//! Every number may be a value or a range `[low, high]`, from which each actor draws by the scenario's seed. What is not
//! understood is refused with a suggestion: a mistyped key must not make a load test easier.

mod amount;
mod fault;

use std::{path::Path, time::Duration};

use serde::Deserialize;

pub(crate) use self::{
    amount::Amount,
    fault::{Fault, Victim},
};
use crate::{clip::Codec, level::Level, suggest};

/// The most actors of one kind; the harness itself is at its end long before.
const MAX_ACTORS: f64 = 100_000.0;
/// The most actors of all kinds in all lives.
const MAX_ACTORS_IN_ALL: f64 = 1_000_000.0;
/// The most lives of a run.
const MAX_LIVES: u32 = 1_000;
/// The longest run.
pub(crate) const MAX_SECONDS: f64 = 7.0 * 86_400.0;
/// The shortest time that anybody waits between what they do again and again.
const LEAST_WAIT_S: f64 = 0.01;
/// The most that is planned: comings, goings and pins, in all lives.
const MAX_STEPS: f64 = 5_000_000.0;

/// All of a scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// What it is for, in a sentence; stands at the head of the report.
    pub(crate) about: String,
    /// From which everything random is drawn.
    #[serde(default = "one")]
    pub(crate) seed: u64,
    /// How long it runs, once everybody has a token.
    pub(crate) duration_s: f64,
    /// In how many lives all this happens at once, each with its own host, viewers, buyers and sale.
    #[serde(default = "one_live")]
    pub(crate) lives: u32,
    /// Who sends; absent: somebody else does.
    pub(crate) publisher: Option<Publisher>,
    /// Who watches.
    #[serde(default)]
    pub(crate) viewers: Vec<Viewers>,
    /// Who holds a channel, and perhaps talks.
    #[serde(default)]
    pub(crate) chatters: Vec<Chatters>,
    /// Who buys.
    #[serde(default)]
    pub(crate) buyers: Vec<Buyers>,
    /// Who pins products.
    pub(crate) host: Option<Host>,
    /// What is sold.
    pub(crate) sale: Option<Sale>,
    /// What breaks.
    #[serde(default)]
    pub(crate) faults: Vec<Fault>,
    /// Viewers are added until a level breaks.
    pub(crate) capacity: Option<Capacity>,
    /// What must hold.
    pub(crate) levels: Vec<Level>,
}

fn one() -> u64 {
    1
}

fn one_live() -> u32 {
    1
}

/// The host's picture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Publisher {
    /// Which clip.
    pub(crate) clip: Codec,
    /// By which protocol.
    #[serde(default)]
    pub(crate) transport: Transport,
    /// In three sizes at once, from which the server chooses for each viewer.
    #[serde(default)]
    pub(crate) simulcast: bool,
    /// Every how many pictures one is stamped, so that delay can be measured.
    #[serde(default = "five")]
    pub(crate) stamp_every: Amount,
    /// When the host's network fails, and for how long: the host is gone, and publishes anew afterwards.
    #[serde(default)]
    pub(crate) away: Vec<Away>,
}

fn five() -> Amount {
    Amount::fixed(5.0)
}

/// A host's absence.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Away {
    pub(crate) at_s: Amount,
    pub(crate) for_s: Amount,
}

/// A group of actors: its own keys, and those that every group has. (serde's `flatten` would lose lines and suggestions.)
macro_rules! group {
    ($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(crate) struct $name {
            pub(crate) count: Amount,
            #[serde(default = "zero")]
            join_at_s: Amount,
            #[serde(default = "zero")]
            join_over_s: Amount,
            #[serde(default = "zero")]
            join_steps: Amount,
            stay_s: Option<Amount>,
            return_after_s: Option<Amount>,
            $($(#[$attribute])* pub(crate) $field: $type,)*
        }

        impl $name {
            /// When they come and go.
            pub(crate) fn coming(&self) -> Coming {
                Coming {
                    join_at_s: self.join_at_s,
                    join_over_s: self.join_over_s,
                    join_steps: self.join_steps,
                    stay_s: self.stay_s,
                    return_after_s: self.return_after_s,
                }
            }
        }
    };
}

group! {
    /// A group of viewers.
    Viewers {
        /// The share of them of whom every packet is decrypted; the others' packets are counted by their headers.
        #[serde(default = "some")]
        decrypt: Amount,
        /// By which protocol they watch.
        #[serde(default)]
        transport: Transport,
    }
}

fn some() -> Amount {
    Amount::fixed(0.05)
}

/// A protocol to watch by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// WHEP.
    #[default]
    WebRtc,
    /// Media over QUIC.
    Moq,
}

/// When actors of a group come and go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coming {
    /// When the first comes.
    pub(crate) join_at_s: Amount,
    /// Over how long they come, evenly; 0: all at once.
    pub(crate) join_over_s: Amount,
    /// In how many equal steps they come over that time; 0: one by one.
    pub(crate) join_steps: Amount,
    /// How long each stays; absent: to the end.
    pub(crate) stay_s: Option<Amount>,
    /// After how long each that has left returns; absent: never.
    pub(crate) return_after_s: Option<Amount>,
}

fn zero() -> Amount {
    Amount::fixed(0.0)
}

group! {
    /// A group of people on the channel.
    Chatters {
        /// How long each waits between lines; absent: they only read.
        say_every_s: Option<Amount>,
        /// How long each waits between taps on the heart; absent: they like nothing.
        like_every_s: Option<Amount>,
        /// A slow reader: how long each waits between messages read; absent: they keep up.
        read_every_ms: Option<Amount>,
    }
}

group! {
    /// A group of buyers, each on a channel of their own.
    Buyers {
        /// How long each takes to tap after the sale has opened.
        tap_after_ms: Amount,
        /// Units asked for.
        #[serde(default = "one_unit")]
        quantity: Amount,
        /// How long each looks at the hold before paying, or walking away.
        #[serde(default = "zero")]
        decide_ms: Amount,
        /// The share that pays; the others give their hold back,
        #[serde(default = "all")]
        pay: Amount,
        /// but for the share that walks away without a word: their holds run out.
        #[serde(default = "zero")]
        abandon: Amount,
        /// The share that sends every request twice, with the same key, as an impatient app does.
        #[serde(default = "zero")]
        repeat: Amount,
        /// How often one who is told to ask again does.
        #[serde(default = "three")]
        retries: Amount,
    }
}

fn one_unit() -> Amount {
    Amount::fixed(1.0)
}

fn all() -> Amount {
    Amount::fixed(1.0)
}

fn three() -> Amount {
    Amount::fixed(3.0)
}

/// A host at the studio.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Host {
    /// How long they wait between pins of different products.
    pub(crate) pin_every_s: Amount,
}

/// A flash sale, opened by the host's token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sale {
    /// When it opens.
    pub(crate) at_s: Amount,
    pub(crate) stock: Amount,
    #[serde(default = "one_unit")]
    pub(crate) per_buyer: Amount,
    #[serde(default = "price")]
    pub(crate) price_minor: Amount,
    /// How long a hold lasts.
    #[serde(default = "minute")]
    pub(crate) hold_s: Amount,
}

fn price() -> Amount {
    Amount::fixed(1_600.0)
}

fn minute() -> Amount {
    Amount::fixed(60.0)
}

/// A search for the number of viewers that can be served.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capacity {
    /// Viewers of the first step.
    pub(crate) start: Amount,
    /// Viewers added with each further step.
    pub(crate) step: Amount,
    /// How long a step is held.
    pub(crate) every_s: Amount,
    /// Not more viewers than this.
    pub(crate) max: Amount,
}

/// Why a scenario is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    /// There is no such file, or it can't be read.
    #[error("can't read {0}: {1}")]
    Read(String, std::io::Error),
    /// It is not TOML, has an unknown key, or a value of the wrong kind; the message shows the line.
    #[error("{file}: {message}")]
    Parse {
        /// The file.
        file: String,
        /// What is wrong and where.
        message: String,
    },
    /// It is well-formed and makes no sense.
    #[error("{0}: {1}")]
    Nonsense(String, String),
}

impl Scenario {
    /// Reads a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ScenarioError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ScenarioError::Read(name.clone(), error))?;
        Self::parse(&text, &name)
    }

    /// Reads text; `file` is named in errors.
    pub(crate) fn parse(text: &str, file: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| {
            let message = suggest::in_message(&error.to_string());
            ScenarioError::Parse { file: file.to_owned(), message }
        })?;
        scenario.check().map_err(|why| ScenarioError::Nonsense(file.to_owned(), why))?;
        Ok(scenario)
    }

    /// How long it runs.
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.duration_s)
    }

    /// Whether there is anything in it that a server other than ours could not do: the channel, and selling.
    pub(crate) fn needs_channel(&self) -> bool {
        !self.chatters.is_empty() || !self.buyers.is_empty() || self.host.is_some() || self.sale.is_some()
    }

    /// Changes the size of the first group of a kind.
    pub(crate) fn set_count(&mut self, group: &str, count: u32) -> Result<(), String> {
        let first = match group {
            "viewers" => self.viewers.first_mut().map(|group| &mut group.count),
            "chatters" => self.chatters.first_mut().map(|group| &mut group.count),
            _ => self.buyers.first_mut().map(|group| &mut group.count),
        };
        *first.ok_or_else(|| format!("the scenario has no {group}"))? = Amount::fixed(f64::from(count));
        Ok(())
    }

    /// Whether it makes sense; why not, if it does not.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(self.duration_s > 0.0 && self.duration_s <= MAX_SECONDS) {
            return Err(format!("duration_s: {} is not between 0 and a week", self.duration_s));
        }
        let share = |name: &str, share: Amount| {
            if share.high <= 1.0 { Ok(()) } else { Err(format!("{name}: {} is no share of 1", share.high)) }
        };
        let within = |name: &str, amount: Amount, most: f64| {
            if amount.high <= most {
                Ok(())
            } else {
                Err(format!("{name}: {} is more than {most}", amount.high))
            }
        };
        for group in &self.viewers {
            share("viewers.decrypt", group.decrypt)?;
        }
        for group in &self.buyers {
            share("buyers.pay", group.pay)?;
            share("buyers.repeat", group.repeat)?;
            share("buyers.abandon", group.abandon)?;
            if group.pay.high + group.abandon.high > 1.0 {
                return Err("buyers: pay and abandon together are more than all of them".to_owned());
            }
            if group.stay_s.is_some() || group.return_after_s.is_some() {
                return Err(
                    "buyers: stay_s and return_after_s are for viewers and chatters; a buyer stays until \
                            the end, so leave them out"
                        .to_owned(),
                );
            }
        }
        for fault in &self.faults {
            fault.check(self.duration_s)?;
        }
        let counts = (self.viewers.iter().map(|g| g.count))
            .chain(self.chatters.iter().map(|g| g.count))
            .chain(self.buyers.iter().map(|g| g.count));
        for count in counts {
            within("count", count, MAX_ACTORS)?;
        }
        let waits = (self.chatters.iter().flat_map(|group| {
            let read_every_s = group.read_every_ms.map(|every| every.times(0.001));
            [
                ("chatters.say_every_s", group.say_every_s),
                ("chatters.like_every_s", group.like_every_s),
                ("chatters.read_every_ms", read_every_s),
            ]
        }))
        .chain(self.host.iter().map(|host| ("host.pin_every_s", Some(host.pin_every_s))));
        for (name, wait) in waits {
            if wait.is_some_and(|wait| wait.low < LEAST_WAIT_S) {
                return Err(format!("{name}: at least {} ms", LEAST_WAIT_S * 1_000.0));
            }
        }
        let comings = (self.viewers.iter().map(|g| ("viewers", g.coming())))
            .chain(self.chatters.iter().map(|g| ("chatters", g.coming())))
            .chain(self.buyers.iter().map(|g| ("buyers", g.coming())));
        for (group, coming) in comings {
            within(&format!("{group}.join_at_s"), coming.join_at_s, self.duration_s)?;
            if coming.return_after_s.is_some() && coming.stay_s.is_none() {
                return Err(format!("{group}: return_after_s needs stay_s, for nobody leaves without it"));
            }
            if coming.stay_s.is_some_and(|stay| stay.low < 0.1) {
                return Err(format!("{group}.stay_s: nobody can stay for less than 0.1 s"));
            }
        }
        if !self.buyers.is_empty() && self.sale.is_none() {
            return Err("buyers need a [sale]".to_owned());
        }
        if let Some(sale) = &self.sale {
            within("sale.at_s", sale.at_s, self.duration_s)?;
            for group in &self.buyers {
                let last = sale.at_s.high + group.tap_after_ms.high / 1_000.0;
                if last > self.duration_s {
                    return Err(format!(
                        "buyers.tap_after_ms: they may tap at {last} s only (at_s and tap_after_ms), after the end"
                    ));
                }
            }
            for group in self.buyers.iter().filter(|group| group.abandon.high > 0.0) {
                let end = sale.at_s.high + group.tap_after_ms.high / 1_000.0 + sale.hold_s.high;
                if end > self.duration_s {
                    return Err(format!(
                        "buyers.abandon: such a hold may run out at {end} s only (at_s, tap_after_ms and hold_s), \
                         after the end"
                    ));
                }
            }
            if sale.stock.low < 1.0 {
                return Err("sale.stock: at least 1".to_owned());
            }
        }
        if let Some(capacity) = &self.capacity {
            for (name, amount) in [("start", capacity.start), ("step", capacity.step), ("max", capacity.max)]
            {
                within(&format!("capacity.{name}"), amount, MAX_ACTORS)?;
            }
        }
        if let Some(capacity) = &self.capacity
            && capacity.start.high > capacity.max.low
        {
            return Err(format!(
                "capacity: it starts with {} and its max is {}",
                capacity.start.high, capacity.max.low
            ));
        }
        if let Some(capacity) = &self.capacity
            && [capacity.start, capacity.step, capacity.every_s].iter().any(|amount| amount.low < 1.0)
        {
            return Err("capacity: start and step must be at least 1, every_s at least 1".to_owned());
        }
        if let Some(publisher) = &self.publisher {
            if publisher.stamp_every.low < 1.0 {
                return Err("publisher.stamp_every: at least 1".to_owned());
            }
            if publisher.simulcast && publisher.clip != Codec::H264 {
                return Err("publisher.simulcast: only the clip h264 has layers".to_owned());
            }
        }
        if !(1..=MAX_LIVES).contains(&self.lives) {
            return Err(format!("lives: {} is not between 1 and {MAX_LIVES}", self.lives));
        }
        if self.lives > 1 && self.capacity.is_some() {
            return Err("lives: a search for capacity is in one live".to_owned());
        }
        self.check_size()?;
        if self.levels.is_empty() {
            return Err("levels: a scenario without any proves nothing".to_owned());
        }
        Ok(())
    }
}

impl Scenario {
    /// Whether it can be planned in memory: what is mistyped must not take the machine with it.
    fn check_size(&self) -> Result<(), String> {
        let groups = (self.viewers.iter().map(|g| (g.count, g.coming())))
            .chain(self.chatters.iter().map(|g| (g.count, g.coming())))
            .chain(self.buyers.iter().map(|g| (g.count, g.coming())));
        let capacity = self.capacity.iter().map(|capacity| capacity.max.high.max(capacity.start.high));
        let (mut actors, mut steps) = (capacity.sum::<f64>(), 0.0);
        for (count, coming) in groups {
            actors += count.high;
            let round_s = coming.stay_s.map_or(0.0, |stay| stay.low)
                + coming.return_after_s.map_or(0.0, |away| away.low);
            let rounds = if coming.return_after_s.is_some() { self.duration_s / round_s } else { 1.0 };
            steps += count.high * 2.0 * rounds.max(1.0);
        }
        steps += self.host.as_ref().map_or(0.0, |host| self.duration_s / host.pin_every_s.low);
        let lives = f64::from(self.lives);
        if actors * lives > MAX_ACTORS_IN_ALL {
            return Err(format!("{} actors in all are more than {MAX_ACTORS_IN_ALL}", actors * lives));
        }
        if steps * lives > MAX_STEPS {
            let steps = (steps * lives).round();
            return Err(format!(
                "up to {steps} comings, goings and pins are more than {MAX_STEPS}: a shorter run, or longer stays"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod numbers;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    fn parse(text: &str) -> Result<Scenario, String> {
        Scenario::parse(text, "test.toml").map_err(|error| error.to_string())
    }

    const LEAST: &str = "about = \"x\"\nduration_s = 10\nlevels = [\"join.failed == 0\"]\n";

    #[test]
    fn the_shipped_scenarios_are_good() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/loadtest");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if let Err(error) = Scenario::read(&path) {
                panic!("{error}");
            }
            names.push(path.file_stem().unwrap().to_str().unwrap().to_owned());
        }
        names.sort();
        let all = [
            "capacity",
            "chaos",
            "chat-storm",
            "evening",
            "flash-sale",
            "herd",
            "media",
            "restart",
            "rush",
            "slow-readers",
            "smoke",
        ];
        assert_eq!(names, all);
    }

    #[test]
    fn what_is_mistyped_is_refused_with_a_suggestion() {
        for (text, expected) in [
            ("[publisher]\nclip = \"h246\"", "did you mean `h264`?"),
            ("[[viewers]]\ncout = 3", "did you mean `count`?"),
            ("[[viewer]]\ncount = 3", "did you mean `viewers`?"),
            ("[[viewers]]\ncount = 3\njoin_over = 3", "did you mean `join_over_s`?"),
            ("[[viewers]]\ncount = \"many\"", "a number, or a range [low, high]"),
            ("[[viewers]]\ncount = [5, 3]", "begins after its end"),
            ("[[viewers]]\ncount = [5, 6, 7]", "a number, or a range"),
            ("[[viewers]]\ncount = -1", "negative"),
            ("[[viewers]]\ncount = 1e9", "more than 100000"),
            ("[[viewers]]\ncount = 1\njoin_over_s = 1e300", "the most that a number may be"),
            ("[[viewers]]\ncount = inf", "must not be negative"),
            ("[[chatters]]\ncount = 1\nsay_every_s = 0", "chatters.say_every_s: at least 10 ms"),
            ("[[chatters]]\ncount = 1\nread_every_ms = [0, 9]", "chatters.read_every_ms: at least 10 ms"),
            ("[host]\npin_every_s = 0", "host.pin_every_s: at least 10 ms"),
            (
                "[capacity]\nstart = 1\nstep = 1\nevery_s = 1\nmax = 1e8",
                "capacity.max: 100000000 is more than",
            ),
            (
                "[[viewers]]\ncount = 100000\nstay_s = 0.1\nreturn_after_s = 0",
                "comings, goings and pins are more than 5000000",
            ),
            ("[[viewers]]\ncount = 1\ndecrypt = 2", "no share of 1"),
            ("[[viewers]]\ncount = 1\ntransport = \"mog\"", "did you mean `moq`?"),
            ("[publisher]\nclip = \"vp8\"\nsimulcast = true", "only the clip h264"),
            ("[[faults]]\nname = \"x\"\nat_s = 1\nkill = \"serve\"", "did you mean `server`?"),
            ("[[viewers]]\ncount = 1\nreturn_after_s = 2", "needs stay_s"),
            ("[[viewers]]\ncount = 1\njoin_at_s = 20", "more than 10"),
            ("[[buyers]]\ncount = 1\ntap_after_ms = 0", "need a [sale]"),
            ("[[buyers]]\ncount = 1\ntap_after_ms = 0\nabandon = 0.5", "more than all of them"),
            (
                "[[buyers]]\ncount = 1\ntap_after_ms = 8000\n[sale]\nat_s = 3\nstock = 1\nhold_s = 4",
                "may tap at 11 s",
            ),
            ("[[buyers]]\ncount = 1\ntap_after_ms = 0\nstay_s = 5", "a buyer stays until the end"),
            (
                "[[buyers]]\ncount = 1\ntap_after_ms = 4000\npay = 0.5\nabandon = 0.5\n[sale]\nat_s = 3\nstock = 1\nhold_s = 4",
                "may run out at 11 s",
            ),
            ("[capacity]\nstart = 50\nstep = 1\nevery_s = 5\nmax = 20", "starts with 50 and its max is 20"),
            ("[[faults]]\nname = \"x\"\nat_s = 1", "one of run, kill and network_of_"),
            ("[[faults]]\nname = \"x\"\nat_s = 1\nnetwork_of_buyers = 2", "more than a share of 1"),
            (
                "[[faults]]\nname = \"x\"\nat_s = 8\nfor_s = [1, 3]\nnetwork_of_chatters = 1",
                "may end at 11 s",
            ),
            ("[[faults]]\nname = \"x\"\nat_s = 1\nkill = \"redis\"\nroam = true", "about networks"),
        ] {
            let error = parse(&format!("{LEAST}{text}")).unwrap_err();
            assert!(error.contains(expected), "{text}\n{error}");
            assert!(error.starts_with("test.toml: "), "{error}");
        }
        let error = parse("about = \"x\"\nduration_s = 10\nlevels = [\"join.ttf_p95_ms <= 3\"]").unwrap_err();
        assert!(error.contains("did you mean join.ttff_p95_ms?"), "{error}");
        let error = parse("about = \"x\"\nduration_s = 10\nlevels = []").unwrap_err();
        assert!(error.contains("proves nothing"), "{error}");
    }

    #[test]
    fn ranges_are_drawn_by_the_seed() {
        let scenario = parse(&format!("{LEAST}[[viewers]]\ncount = [10, 20]\nstay_s = [1.5, 2]")).unwrap();
        let (count, stay) = (scenario.viewers[0].count, scenario.viewers[0].coming().stay_s.unwrap());
        let mut random = Random::new(3, 0);
        let counts: Vec<_> = (0..200).map(|_| count.draw_count(&mut random)).collect();
        assert_eq!((counts.iter().min(), counts.iter().max()), (Some(&10), Some(&20)));
        assert!((1.5..2.0).contains(&stay.draw_seconds(&mut random).as_secs_f64()));
        assert_eq!(Amount::fixed(7.0).draw_count(&mut random), 7);
    }
}
