//! A live's room: who says what, in one order that everybody sees.

use std::collections::VecDeque;

use bytes::Bytes;
use haul_model::{BuyerId, MessageId, Now, Viewer};
use haul_wire::{ChatLine, Event, Pin, Position, encode_event};

use crate::{
    chat::{Refused, clean},
    limiter::{Limiter, Rate},
};

/// An event or reply as it goes on the wire: encoded once, shared by all who get it.
pub type Line = Bytes;

/// Chat lines a newcomer is shown.
pub const MAX_CHAT_SHOWN: usize = 50;
/// Events kept for those who come back; who missed more gets a snapshot instead. At 10 lines a second, three minutes.
pub const MAX_HISTORY: usize = 2048;
/// Bytes of events kept; the oldest go first.
pub const MAX_HISTORY_BYTES: usize = 1024 * 1024;

/// Chat, the pin, and the order of events.
#[derive(Debug)]
pub struct Room {
    /// Distinguishes this order from one before a restart.
    epoch: String,
    /// Of the last numbered event.
    offset: u64,
    /// The last numbered events; the newest has `offset`.
    history: VecDeque<Line>,
    history_bytes: usize,
    chat: VecDeque<ChatLine>,
    limiter: Limiter<BuyerId>,
    pin: Option<Pin>,
}

impl Room {
    /// An empty room. `epoch` must differ from that of any room of the same live before it.
    pub fn new(epoch: String, chat_rate: Rate) -> Self {
        Self {
            epoch,
            offset: 0,
            history: VecDeque::new(),
            history_bytes: 0,
            chat: VecDeque::new(),
            limiter: Limiter::new(chat_rate),
            pin: None,
        }
    }

    /// Where a reader of everything so far stands.
    pub fn position(&self) -> (&str, u64) {
        (&self.epoch, self.offset)
    }

    /// The last chat lines, oldest first.
    pub fn chat(&self) -> impl Iterator<Item = &ChatLine> {
        self.chat.iter()
    }

    /// What is pinned.
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// Somebody speaks: the line for everybody, and its id.
    pub fn say(
        &mut self,
        viewer: &Viewer,
        text: &str,
        id: MessageId,
        now: Now,
    ) -> Result<(MessageId, Line), Refused> {
        let text = clean(text)?;
        self.limiter
            .take(viewer.id.clone(), now.instant)
            .map_err(|retry_after| Refused::TooFast { retry_after })?;
        let said =
            ChatLine { id: id.clone(), name: viewer.name.clone(), role: viewer.role, text, at: now.wall };
        if self.chat.len() == MAX_CHAT_SHOWN {
            self.chat.pop_front();
        }
        self.chat.push_back(said.clone());
        Ok((id, self.record(&Event::ChatMessage(said))))
    }

    /// Pins a product, or none.
    pub fn set_pin(&mut self, pin: Option<Pin>) -> Line {
        self.pin = pin.clone();
        self.record(&Event::PinChanged { pin })
    }

    /// Gives an event the next offset, and keeps it for those who come back.
    pub fn record(&mut self, event: &Event) -> Line {
        self.offset += 1;
        let line = Line::from(encode_event(&self.epoch, Some(self.offset), event));
        self.history_bytes += line.len();
        self.history.push_back(line.clone());
        while self.history.len() > MAX_HISTORY || self.history_bytes > MAX_HISTORY_BYTES {
            match self.history.pop_front() {
                Some(oldest) => self.history_bytes -= oldest.len(),
                None => break,
            }
        }
        line
    }

    /// An event for one reader, or one of which only the latest matters: it has no offset, since it may overtake those
    /// that have one.
    pub fn line(&self, event: &Event) -> Line {
        encode_event(&self.epoch, None, event).into()
    }

    /// What somebody who had read up to `position` has missed: nothing but those lines, oldest first. `None` where that
    /// can't be known any more, or never was.
    pub fn missed(&self, position: &Position) -> Option<Vec<Line>> {
        if position.epoch != self.epoch {
            return None;
        }
        let missed = usize::try_from(self.offset.checked_sub(position.offset)?).ok()?;
        let first = self.history.len().checked_sub(missed)?;
        Some(self.history.range(first..).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use haul_model::{Role, UnixMillis};

    use super::*;

    #[allow(clippy::disallowed_methods)]
    fn start() -> Now {
        Now { instant: Instant::now(), wall: UnixMillis(1_000_000) }
    }

    fn viewer(id: &str) -> Viewer {
        let id: BuyerId = id.parse().unwrap();
        Viewer {
            name: id.to_string(),
            id,
            role: Role::Viewer,
            expires_at: UnixMillis(u64::MAX),
            merchant: haul_model::MerchantId::main(),
        }
    }

    fn room() -> Room {
        Room::new("e1".into(), Rate { burst: 3, every: Duration::from_secs(2) })
    }

    fn say(room: &mut Room, who: &str, text: &str, now: Now) -> Result<Line, Refused> {
        let id = MessageId::generate("msg_", now.wall, u128::from(room.offset));
        room.say(&viewer(who), text, id, now).map(|(_, line)| line)
    }

    #[test]
    fn newcomers_see_the_last_lines() {
        let mut room = room();
        let mut now = start();
        for n in 0..MAX_CHAT_SHOWN + 5 {
            say(&mut room, "ann", &n.to_string(), now).unwrap();
            now = now.after(Duration::from_secs(2));
        }
        let texts: Vec<_> = room.chat().map(|line| line.text.as_str()).collect();
        assert_eq!(texts.len(), MAX_CHAT_SHOWN);
        assert_eq!(texts[0], "5");
    }

    #[test]
    fn a_talker_is_slowed_down_and_told_for_how_long() {
        let (mut room, now) = (room(), start());
        for _ in 0..3 {
            say(&mut room, "ann", "hi", now).unwrap();
        }
        assert_eq!(
            say(&mut room, "ann", "hi", now),
            Err(Refused::TooFast { retry_after: Duration::from_secs(2) })
        );
        assert!(say(&mut room, "bob", "hi", now).is_ok());
        assert_eq!(room.position(), ("e1", 4), "refused lines take no place in the order");
    }

    #[test]
    fn who_comes_back_gets_exactly_what_was_missed() {
        let (mut room, now) = (room(), start());
        let lines: Vec<_> =
            ["a", "b", "c"].iter().map(|text| say(&mut room, text, text, now).unwrap()).collect();
        let at = |epoch: &str, offset| Position { epoch: epoch.into(), offset };
        for cut in 0..=3 {
            assert_eq!(room.missed(&at("e1", cut as u64)), Some(lines[cut..].to_vec()), "{cut}");
        }
        assert_eq!(room.missed(&at("e0", 3)), None, "another epoch");
        assert_eq!(room.missed(&at("e1", 4)), None, "a future that never was");
        assert_eq!(room.missed(&at("e1", u64::MAX)), None);
    }

    #[test]
    fn a_line_that_may_overtake_others_does_not_say_where_its_reader_stands() {
        let mut room = room();
        let numbered = room.set_pin(None);
        let unnumbered = room.line(&Event::ViewersChanged { viewers: 3 });
        let has_offset = |line: &Line| std::str::from_utf8(line).unwrap().contains(r#""offset":"#);
        assert!(has_offset(&numbered) && !has_offset(&unnumbered));
        assert_eq!(room.position(), ("e1", 1), "it takes no place either");
    }

    #[test]
    fn who_missed_too_much_is_told_so() {
        let mut room = room();
        for _ in 0..MAX_HISTORY + 1 {
            room.set_pin(None);
        }
        let at = |offset| Position { epoch: "e1".into(), offset };
        assert_eq!(room.missed(&at(0)), None);
        assert_eq!(room.missed(&at(1)).map(|lines| lines.len()), Some(MAX_HISTORY));
    }
}
