//! What a host does with the room: announcements, polls, giveaways.

use haul_model::{BuyerId, GiveawayId, PollId, UnixMillis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked about announcements, polls and giveaways, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum ShowAsk {
    /// Shows a sentence to all, or none where `text` is absent. Host or moderator.
    #[serde(rename = "announce")]
    Announce {
        /// At most 200 characters.
        text: Option<String>,
    },
    /// Opens a poll; one at a time. Host or moderator.
    #[serde(rename = "poll.open")]
    PollOpen {
        /// At most 120 characters.
        question: String,
        /// 2 to 6, each of at most 60 characters.
        options: Vec<String>,
        /// How long it stays open, in milliseconds: 5 seconds to an hour.
        duration_ms: u64,
    },
    /// Votes, or changes one's vote.
    #[serde(rename = "poll.vote")]
    PollVote {
        /// In which poll.
        poll_id: PollId,
        /// For which option, counted from 0.
        option: u8,
    },
    /// Closes a poll, or takes a closed one out of sight. Host or moderator.
    #[serde(rename = "poll.close")]
    PollClose {
        /// Which poll.
        poll_id: PollId,
    },
    /// Starts a giveaway; one at a time. Host.
    #[serde(rename = "giveaway.start")]
    GiveawayStart {
        /// What there is to win, at most 120 characters.
        title: String,
        /// Writing this word in the chat enters, too; at most 30 characters.
        word: Option<String>,
        /// How many win, 1 to 100.
        winners: u32,
        /// How long it may be entered, in milliseconds: 5 seconds to an hour.
        duration_ms: u64,
        /// How long winners have to claim, in milliseconds: 10 seconds to 7 days.
        claim_ms: u64,
    },
    /// Enters a giveaway; once a person, however often it is asked.
    #[serde(rename = "giveaway.enter")]
    GiveawayEnter {
        /// Which.
        giveaway_id: GiveawayId,
    },
    /// Draws the winners now instead of at its end. Host.
    #[serde(rename = "giveaway.draw")]
    GiveawayDraw {
        /// Which.
        giveaway_id: GiveawayId,
    },
    /// A winner claims.
    #[serde(rename = "giveaway.claim")]
    GiveawayClaim {
        /// Which.
        giveaway_id: GiveawayId,
    },
    /// Takes a drawn giveaway out of sight, or calls off one that is open. Host.
    #[serde(rename = "giveaway.end")]
    GiveawayEnd {
        /// Which.
        giveaway_id: GiveawayId,
    },
}

impl ShowAsk {
    /// The types, as they are written.
    pub const TYPES: &[&str] = &[
        "announce",
        "poll.open",
        "poll.vote",
        "poll.close",
        "giveaway.start",
        "giveaway.enter",
        "giveaway.draw",
        "giveaway.claim",
        "giveaway.end",
    ];
}

/// What a host does with the room, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum ShowNews {
    /// Another sentence is shown, or none.
    #[serde(rename = "announcement.changed")]
    Announcement {
        /// The sentence.
        announcement: Option<Announcement>,
    },
    /// A poll was opened or closed, or is out of sight.
    #[serde(rename = "poll.changed")]
    Poll {
        /// The poll now.
        poll: Option<Poll>,
    },
    /// Votes were given. Several are told as one, about once a second; only the latest counts.
    #[serde(rename = "poll.votes")]
    PollVotes {
        /// In which poll.
        poll_id: PollId,
        /// For each option.
        votes: Vec<u32>,
    },
    /// A giveaway was started or drawn, or is out of sight.
    #[serde(rename = "giveaway.changed")]
    Giveaway {
        /// The giveaway now.
        giveaway: Option<Giveaway>,
    },
    /// People entered. Several are told as one, about once a second; only the latest counts.
    #[serde(rename = "giveaway.entries")]
    GiveawayEntries {
        /// Which.
        giveaway_id: GiveawayId,
        /// How many have entered.
        entries: u32,
    },
    /// To a winner: you have won, and may claim until then.
    #[serde(rename = "giveaway.won")]
    GiveawayWon {
        /// Which.
        giveaway: Giveaway,
    },
    /// To host and moderators: who has won, who has claimed.
    #[serde(rename = "giveaway.winners")]
    GiveawayWinners {
        /// Which.
        giveaway_id: GiveawayId,
        /// Them.
        winners: Vec<Winner>,
    },
}

/// A sentence shown to all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Announcement {
    /// The sentence: text, never markup.
    pub text: String,
    /// Since when.
    pub at: UnixMillis,
}

/// A poll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Poll {
    /// Its id.
    pub id: PollId,
    /// What is asked.
    pub question: String,
    /// What may be chosen.
    pub options: Vec<String>,
    /// Votes for each.
    pub votes: Vec<u32>,
    /// Whether one may still vote.
    pub open: bool,
    /// When it closes by itself.
    pub closes_at: UnixMillis,
}

/// A giveaway.
///
/// It can be checked by everybody: `commitment` is the SHA-256 of `seed` (both in hexadecimal digits), told before
/// anybody has entered; `seed` is told with the draw. Each entry has a ticket, the first 16 hexadecimal digits of the
/// SHA-256 of `giveaway id:person's id`. Those win whose SHA-256 of `seed:ticket` is the smallest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Giveaway {
    /// Its id.
    pub id: GiveawayId,
    /// What there is to win.
    pub title: String,
    /// Writing it in the chat enters.
    pub word: Option<String>,
    /// How many win.
    pub winners_wanted: u32,
    /// Whether it may still be entered.
    pub open: bool,
    /// When it is drawn by itself.
    pub closes_at: UnixMillis,
    /// How many have entered.
    pub entries: u32,
    /// SHA-256 of the seed.
    pub commitment: String,
    /// The seed, from the draw on.
    pub seed: Option<String>,
    /// The names and tickets of those who have won, from the draw on.
    pub winners: Vec<WinnerView>,
    /// Until when winners may claim, from the draw on.
    pub claim_until: Option<UnixMillis>,
}

/// A giveaway that the reader has won.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Won {
    /// Which; its `claim_until` says until when it may be claimed.
    pub giveaway: Giveaway,
    /// Whether it is claimed.
    pub claimed: bool,
}

/// A drawn giveaway that is out of sight and may still be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Drawn {
    /// Which.
    pub giveaway: Giveaway,
    /// Who has won, and who has claimed.
    pub winners: Vec<Winner>,
}

/// A winner as everybody sees them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WinnerView {
    /// Their name.
    pub name: String,
    /// Their ticket.
    pub ticket: String,
}

/// A winner as host and moderators see them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Winner {
    /// Who.
    pub user_id: BuyerId,
    /// By what name.
    pub name: String,
    /// Their ticket.
    pub ticket: String,
    /// Whether they have claimed in time.
    pub claimed: bool,
}
