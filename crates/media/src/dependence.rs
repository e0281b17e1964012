//! Which pictures still decode after one was lost: those of VP8 and VP9 say enough of themselves to tell. A lost picture
//! that nothing depends on must cost neither the rest of its GOP nor a keyframe.

use haul_model::media::PictureNumbers;

/// So many pictures of upper temporal layers are left out before a keyframe is asked for after all.
pub const MAX_SKIPPED: u32 = 60;

/// What a picture's payload descriptor says of what it depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reference {
    /// Its running numbers.
    pub numbers: Option<PictureNumbers>,
    /// Its temporal layer; 0 is the base.
    pub temporal_id: u8,
    /// Of an upper temporal layer, it depends on the base layer's last picture only (VP8's Y).
    pub depends_on_base_only: bool,
    /// What follows in upper temporal layers depends on nothing before it (VP9's U).
    pub switching_point: bool,
    /// The pictures it depends on, where it names them (VP9's flexible mode): bit `n` is the one whose picture id is
    /// less by `n`.
    pub pictures: Option<u128>,
    /// No other depends on it (VP8's N).
    pub unneeded: bool,
}

/// Whether a picture goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All that it depends on has gone on.
    Decodable,
    /// It may depend on something lost; what follows need not.
    Skip,
    /// It may depend on something lost, and so may everything after it: a keyframe is needed.
    Broken,
}

/// What of a stream's pictures has gone on, as far as telling what depends on what.
#[derive(Debug, Clone, Default)]
pub struct Dependence {
    /// The last picture id and TL0PICIDX that went on.
    picture_id: Option<u16>,
    tl0: Option<u8>,
    /// Bit `n`: the picture whose id is less by `n` than the last has gone on.
    gone: u128,
    /// Bit `n`: pictures may depend on what has gone on of temporal layer `n`.
    intact: u8,
    /// Something was lost since.
    lost: bool,
    /// The lost picture was this one, of which it is known that nothing depends on it.
    unneeded: Option<u16>,
    /// Pictures left out one after another.
    skipped: u32,
}

impl Dependence {
    /// Something is missing before the next picture. `torn` is what is known of the picture that it is missing from.
    pub fn lose(&mut self, torn: Option<Reference>) {
        let follows = |numbers: &PictureNumbers| self.picture_id.map(next_id) == Some(numbers.picture_id);
        let unneeded = torn.filter(|torn| torn.unneeded && !self.lost).and_then(|torn| torn.numbers);
        self.unneeded = unneeded.filter(follows).map(|numbers| numbers.picture_id);
        self.lost = true;
    }

    /// Judges the next picture, and takes it as gone on if it does.
    pub fn judge(&mut self, picture: &Reference, keyframe: bool) -> Verdict {
        let verdict = match picture.pictures {
            _ if keyframe => Verdict::Decodable,
            Some(pictures) => self.judge_named(picture, pictures),
            None => self.judge_layered(picture),
        };
        match verdict {
            Verdict::Decodable => self.take(picture, keyframe),
            Verdict::Skip => {
                self.skipped += 1;
                if self.skipped > MAX_SKIPPED {
                    return Verdict::Broken;
                }
            }
            Verdict::Broken => {}
        }
        verdict
    }

    /// The picture says by name what it depends on.
    fn judge_named(&self, picture: &Reference, pictures: u128) -> Verdict {
        let (Some(last), Some(numbers)) = (self.picture_id, picture.numbers) else {
            return self.unless_lost();
        };
        let ahead = numbers.picture_id.wrapping_sub(last) & 0x7FFF;
        let gone = self.gone.checked_shl(ahead.into()).unwrap_or(0);
        match pictures & !gone {
            0 => Verdict::Decodable,
            // Without a loss, a name that is not known is an encoder's oddity.
            _ if !self.lost && self.skipped == 0 => Verdict::Decodable,
            _ if picture.temporal_id > 0 => Verdict::Skip,
            _ => Verdict::Broken,
        }
    }

    /// The picture names its temporal layer, or nothing.
    fn judge_layered(&self, picture: &Reference) -> Verdict {
        let layer = picture.temporal_id.min(7);
        let harmless = self
            .unneeded
            .is_some_and(|lost| picture.numbers.is_some_and(|numbers| numbers.picture_id == next_id(lost)));
        if self.lost && !harmless {
            let tl0 = picture.numbers.and_then(|numbers| numbers.tl0);
            let (Some(before), Some(tl0)) = (self.tl0, tl0) else { return Verdict::Broken };
            // A picture of the base layer counts on: if it follows the last, what is missing is from upper layers.
            return match (layer, tl0.wrapping_sub(before)) {
                (0, 1) => Verdict::Decodable,
                (1.., 0) if picture.depends_on_base_only => Verdict::Decodable,
                (1.., 0) => Verdict::Skip,
                _ => Verdict::Broken,
            };
        }
        let needed = if picture.depends_on_base_only { 1 } else { (2_u16 << layer) - 1 };
        if u16::from(self.intact) & needed == needed { Verdict::Decodable } else { Verdict::Skip }
    }

    fn unless_lost(&self) -> Verdict {
        if self.lost { Verdict::Broken } else { Verdict::Decodable }
    }

    fn take(&mut self, picture: &Reference, keyframe: bool) {
        let layer = picture.temporal_id.min(7);
        if keyframe {
            self.intact = u8::MAX;
        } else if self.lost && self.unneeded.is_none() {
            self.intact = 1;
        }
        self.intact |= 1 << layer;
        if picture.switching_point {
            self.intact |= u8::MAX << layer;
        }
        (self.lost, self.unneeded, self.skipped) = (false, None, 0);
        if let Some(numbers) = picture.numbers {
            let ahead = self.picture_id.map_or(0, |last| numbers.picture_id.wrapping_sub(last) & 0x7FFF);
            let before = if keyframe { 0 } else { self.gone.checked_shl(ahead.into()).unwrap_or(0) };
            self.gone = before | 1;
            self.picture_id = Some(numbers.picture_id);
            self.tl0 = numbers.tl0;
        }
    }
}

fn next_id(id: u16) -> u16 {
    id.wrapping_add(1) & 0x7FFF
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::*;

    fn layered(picture_id: u16, tl0: u8, temporal_id: u8) -> Reference {
        let numbers = Some(PictureNumbers { picture_id, tl0: Some(tl0) });
        Reference { numbers, temporal_id, ..Reference::default() }
    }

    fn started() -> Dependence {
        let mut dependence = Dependence::default();
        assert_eq!(dependence.judge(&layered(0x7FFE, 255, 0), true), Decodable);
        dependence
    }

    #[test]
    fn a_lost_picture_of_an_upper_layer_breaks_nothing_below_it() {
        let mut stream = started();
        stream.lose(None);
        assert_eq!(stream.judge(&layered(0, 0, 0), false), Decodable, "0x7FFF was of an upper layer");
        assert_eq!(stream.judge(&layered(1, 0, 1), false), Skip, "it may depend on the lost one");
        let sync = Reference { depends_on_base_only: true, ..layered(2, 0, 1) };
        assert_eq!(stream.judge(&sync, false), Decodable);
        assert_eq!(stream.judge(&layered(3, 0, 1), false), Decodable, "it depends on the one before it");
        assert_eq!(stream.judge(&layered(4, 0, 2), false), Skip);
    }

    #[test]
    fn a_lost_picture_of_the_base_layer_breaks_everything() {
        let mut stream = started();
        stream.lose(None);
        assert_eq!(stream.judge(&layered(1, 1, 0), false), Broken);
        assert_eq!(stream.judge(&layered(2, 1, 1), false), Broken);
        assert_eq!(stream.judge(&layered(3, 2, 0), true), Decodable);
    }

    #[test]
    fn an_upper_layer_that_stays_unusable_gets_a_keyframe_after_all() {
        let mut stream = started();
        stream.lose(None);
        assert_eq!(stream.judge(&layered(0, 0, 0), false), Decodable);
        let skipped = (1..200).take_while(|id| stream.judge(&layered(*id, 0, 1), false) == Skip).count();
        assert_eq!(skipped as u32, MAX_SKIPPED);
    }

    #[test]
    fn without_numbers_any_loss_breaks() {
        let mut stream = Dependence::default();
        assert_eq!(stream.judge(&Reference::default(), true), Decodable);
        assert_eq!(stream.judge(&Reference::default(), false), Decodable);
        stream.lose(None);
        assert_eq!(stream.judge(&Reference::default(), false), Broken);
    }

    #[test]
    fn a_torn_picture_that_none_depends_on_is_not_missed() {
        let torn = |id| Reference { unneeded: true, ..layered(id, 255, 0) };
        let next = |id| Reference {
            numbers: Some(PictureNumbers { picture_id: id, tl0: None }),
            ..layered(0, 0, 0)
        };
        let mut stream = started();
        stream.lose(Some(torn(0x7FFF)));
        assert_eq!(stream.judge(&next(0), false), Decodable);
        let mut stream = started();
        stream.lose(Some(torn(0x7FFF)));
        assert_eq!(stream.judge(&next(1), false), Broken, "one more is missing");
        let mut stream = started();
        stream.lose(Some(torn(0)));
        assert_eq!(stream.judge(&next(1), false), Broken, "one before it is missing");
    }

    #[test]
    fn pictures_that_name_what_they_need_are_taken_at_their_word() {
        let flexible = |picture_id, pictures| Reference {
            numbers: Some(PictureNumbers { picture_id, tl0: None }),
            pictures: Some(pictures),
            ..Reference::default()
        };
        let mut stream = Dependence::default();
        assert_eq!(stream.judge(&flexible(10, 0), true), Decodable);
        assert_eq!(stream.judge(&flexible(11, 1 << 1), false), Decodable);
        stream.lose(None);
        assert_eq!(stream.judge(&flexible(13, 1 << 2), false), Decodable, "it needs 11, and 12 was lost");
        stream.lose(None);
        assert_eq!(stream.judge(&flexible(14, 1 << 2), false), Broken, "it needs 12");
        let upper = Reference { temporal_id: 1, ..flexible(14, 1 << 2) };
        assert_eq!(stream.judge(&upper, false), Skip);
    }

    #[test]
    fn switching_points_free_the_upper_layers() {
        let mut stream = started();
        stream.lose(None);
        let point = Reference { switching_point: true, ..layered(0, 0, 0) };
        assert_eq!(stream.judge(&point, false), Decodable);
        assert_eq!(stream.judge(&layered(1, 0, 2), false), Decodable);
    }
}
