//! Likes, reactions and who has come, all told as sums; and private threads with the host's team.

use std::collections::BTreeMap;

use haul_model::{BuyerId, MessageId, UnixMillis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is asked, by its `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type")]
pub enum CrowdAsk {
    /// Likes what is seen. There is no reply, unless it is refused.
    #[serde(rename = "like")]
    Like {
        /// How often since the last such message, 1 to 20; 1 where absent.
        #[serde(default = "one")]
        count: u32,
        /// How.
        #[serde(default)]
        kind: Reaction,
    },
    /// Writes to the host's team, seen by nobody else; or from the team to a person.
    #[serde(rename = "thread.send")]
    ThreadSend {
        /// At most 300 characters.
        text: String,
        /// To whom, for host and moderators.
        user_id: Option<BuyerId>,
        /// As with `chat.send`: the same for a retry.
        client_id: Option<String>,
    },
    /// The messages of one's own thread, or of a person's, for host and moderators.
    #[serde(rename = "thread.read")]
    ThreadRead {
        /// Whose, for host and moderators.
        user_id: Option<BuyerId>,
    },
    /// Threads, the one with the newest message first, 40 at most. Host or moderator.
    #[serde(rename = "thread.list")]
    ThreadList {
        /// Only those whose last message is older than this one: the last of the page before.
        before: Option<MessageId>,
    },
}

impl CrowdAsk {
    /// The types, as they are written.
    pub const TYPES: &[&str] = &["like", "thread.send", "thread.read", "thread.list"];
}

fn one() -> u32 {
    1
}

/// How something is liked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reaction {
    /// A heart.
    #[default]
    Heart,
    /// Laughter.
    Laugh,
    /// Astonishment.
    Wow,
    /// Applause.
    Clap,
    /// Fire.
    Fire,
}

/// What the crowd does, by its `type`. Only the latest counts, but for threads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "type")]
pub enum CrowdNews {
    /// Likes since the last such event, about once a second.
    #[serde(rename = "likes")]
    Likes {
        /// Of all kinds since the live began here.
        total: u64,
        /// New ones by kind.
        new: BTreeMap<Reaction, u32>,
    },
    /// Some of those who have come lately, every two seconds at most.
    #[serde(rename = "viewers.joined")]
    Joined {
        /// Up to three names.
        names: Vec<String>,
        /// How many came beside them.
        others: u32,
    },
    /// To a person and to the host's team: a message of their thread.
    #[serde(rename = "thread.message")]
    Thread {
        /// Whose thread.
        user_id: BuyerId,
        /// By what name.
        user_name: String,
        /// The message.
        message: ThreadMessage,
    },
}

/// A message of a private thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadMessage {
    /// Its id.
    pub id: MessageId,
    /// Who wrote it.
    pub name: String,
    /// Whether that was the host's team.
    pub from_team: bool,
    /// What: text, never markup.
    pub text: String,
    /// When.
    pub at: UnixMillis,
}

/// A private thread, in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ThreadLine {
    /// Whose.
    pub user_id: BuyerId,
    /// By what name.
    pub user_name: String,
    /// Its last message.
    pub last: ThreadMessage,
}

/// What else a newcomer must know of the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RoomView {
    /// Questions that wait, those that most want to know first, then those that were answered, newest first.
    pub questions: Vec<crate::questions::Question>,
    /// What the reader has asked, and where it stands, oldest first.
    pub yours: Vec<crate::questions::Question>,
    /// The sentence shown to all.
    pub announcement: Option<crate::show::Announcement>,
    /// The poll.
    pub poll: Option<crate::show::Poll>,
    /// The giveaway.
    pub giveaway: Option<crate::show::Giveaway>,
    /// The reader's own ticket in it.
    pub ticket: Option<String>,
    /// What the reader has won and may claim still, or has claimed, also of giveaways that are out of sight.
    pub won: Vec<crate::show::Won>,
    /// Likes since the live began here.
    pub likes: u64,
    /// The most viewers at once.
    pub peak: u64,
    /// The reader's private thread with the host's team.
    pub thread: Vec<ThreadMessage>,
}
